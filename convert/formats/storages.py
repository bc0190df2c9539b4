"""Storages of torch files: where the numbers of each tensor stand."""

import math
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

from convert.formats.pickles import Function, Global, Record

_DTYPES: Mapping[str, Any] = {
    "bfloat16": ml_dtypes.bfloat16,
    "complex64": np.complex64,
    "complex128": np.complex128,
    "float16": np.float16,
    "float32": np.float32,
    "float64": np.float64,
    "int8": np.int8,
    "int16": np.int16,
    "int32": np.int32,
    "int64": np.int64,
    "uint8": np.uint8,
    "uint16": np.uint16,
    "uint32": np.uint32,
    "uint64": np.uint64,
    "bool": np.bool_,
}
"""torch's name of a type -> NumPy's type."""

_STORAGES = {
    "BFloat16": "bfloat16",
    "ComplexFloat": "complex64",
    "ComplexDouble": "complex128",
    "Half": "float16",
    "Float": "float32",
    "Double": "float64",
    "Char": "int8",
    "Short": "int16",
    "Int": "int32",
    "Long": "int64",
    "Byte": "uint8",
    "Bool": "bool",
    "Untyped": "uint8",
    "QInt8": "int8",
}
"""Beginning of the name of a storage's class -> torch's name of its type."""


_MOST_SHARED = 4
"""Largest size of all tensors, as a multiple of the file's: some of them share their numbers."""


class Place(NamedTuple):
    """The bytes of a storage in a file.

    Attributes:
      start: of the first.
      size: number of bytes.
      crc: their CRC-32; 0 where the file does not say it.
    """

    start: int
    size: int
    crc: int = 0

    def read(self, file: BinaryIO) -> np.ndarray:
        """Read the bytes.

        Raises:
          ValueError: the file is shorter, or the bytes are not those that were written.
        """
        file.seek(self.start)
        found = np.fromfile(file, np.uint8, self.size)
        if len(found) != self.size or (self.crc and zlib.crc32(found.data) != self.crc):
            raise ValueError("the bytes of a storage are not those that were written")
        return found


def check_places(places: Iterable[Place]) -> None:
    """Raise ValueError if two storages share bytes, which would multiply a file's size."""
    end = 0
    for place in sorted(places):
        if place.start < end:
            raise ValueError("storages overlap")
        end = place.start + place.size


class Storage(NamedTuple):
    """A storage that a pickle names.

    Attributes:
      key: of its place.
      dtype: of its elements.
      length: number of elements.
      first, last: elements of the place's that are in it; all where `last` is None.
    """

    key: str
    dtype: np.dtype
    length: int
    first: int = 0
    last: int | None = None


def storage_of(identifier: Any) -> Storage:
    """Return the storage of a persistent identifier.

    Raises:
      ValueError: it is none of a storage.
    """
    kind, storage, key, _, length, *view = identifier
    if kind != "storage" or not isinstance(storage, Global):
        raise ValueError("an identifier of something else than a storage")
    name = storage.name.rpartition(".")[2].removesuffix("Storage")
    dtype = np.dtype(_DTYPES[_STORAGES[name]])
    if view and view[0] is not None:
        _, first, size = view[0]
        return Storage(str(key), dtype, length, first, first + size)
    return Storage(str(key), dtype, length)


class StoredTensor(NamedTuple):
    """A tensor that has not been read.

    Attributes:
      storage: that holds its numbers.
      offset: of its first number, in elements.
      shape: its shape.
      strides: steps along each axis, in elements.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype:
        """Type of its numbers."""
        return self.storage.dtype

    def within(self, numbers: np.ndarray) -> np.ndarray:
        """Return the tensor as a view of its storage's numbers.

        Raises:
          ValueError: it has numbers outside the storage.
        """
        steps = [stride * (size - 1) for size, stride in zip(self.shape, self.strides, strict=True)]
        count = math.prod(self.shape)
        inside = self.offset >= 0 and self.offset + sum(steps) < len(numbers)
        if min((*self.shape, *self.strides, 0)) < 0 or (count and not inside):
            raise ValueError("a tensor reaches beyond its storage")
        if not count:
            return np.zeros(self.shape, self.dtype)
        strides = [stride * self.dtype.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(
            numbers[self.offset :], self.shape, strides, writeable=False
        )


def read_tensors(
    path: Path, tensors: Mapping[str, StoredTensor], places: Mapping[str, Place]
) -> dict[str, np.ndarray]:
    """Read tensors, and nothing else of the file.

    Args:
      path: the file.
      tensors: by name.
      places: of the file's storages, by key.

    Raises:
      ValueError, KeyError: a tensor has no place in the file.
    """
    sizes = [math.prod(tensor.shape) * tensor.dtype.itemsize for tensor in tensors.values()]
    if sum(sizes) > _MOST_SHARED * path.stat().st_size:
        raise ValueError("the tensors are much larger than the file")
    read: dict[str, np.ndarray] = {}
    arrays = {}
    with path.open("rb") as file:
        for name, tensor in tensors.items():
            storage = tensor.storage
            if storage.key not in read:
                read[storage.key] = places[storage.key].read(file)
            numbers = read[storage.key].view(storage.dtype)
            if len(numbers) != storage.length:
                raise ValueError("a storage has another length than it is said to have")
            arrays[name] = tensor.within(numbers[storage.first : storage.last])
    return arrays


def _rebuild(storage: Storage, offset: int, shape: Any, strides: Any, *more: Any) -> StoredTensor:
    del more  # whether it has a gradient, and hooks
    if not isinstance(storage, Storage):
        raise ValueError("a tensor of something else than a storage")
    return StoredTensor(storage, int(offset), _integers(shape), _integers(strides))


def _rebuild_typed(
    storage: Storage, offset: int, shape: Any, strides: Any, gradient: Any, hooks: Any, *more: Any
) -> StoredTensor | Record:
    """Rebuild a tensor whose storage has no type of its own."""
    dtype, *_ = more
    name = dtype.name.removeprefix("torch.")
    if name not in _DTYPES:
        return Record(dtype.name)
    kind = np.dtype(_DTYPES[name])
    typed = storage._replace(dtype=kind, length=storage.length // kind.itemsize)
    return _rebuild(typed, offset, shape, strides)


def _rebuild_parameter(data: Any, *more: Any) -> Any:
    return data


def _rebuild_from_type(function: Global, kind: Any, args: Any, state: Any) -> Any:
    """Rebuild a tensor of a class of somebody's own, which is left out."""
    known = REBUILD.get(function.name)
    return known(*args) if known else Record(function.name, args)


def _integers(values: Any) -> tuple[int, ...]:
    return tuple(int(value) for value in values)


REBUILD: Mapping[str, Function] = {
    "torch._utils._rebuild_tensor": _rebuild,
    "torch._utils._rebuild_tensor_v2": _rebuild,
    "torch._utils._rebuild_tensor_v3": _rebuild_typed,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "torch._utils._rebuild_parameter_with_state": _rebuild_parameter,
    "torch._tensor._rebuild_from_type_v2": _rebuild_from_type,
}
"""Functions by which torch's files name their tensors."""
