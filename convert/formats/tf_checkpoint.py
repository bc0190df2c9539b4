"""TensorFlow's checkpoints: tables of LevelDB's.

The table of the second format is an index, with files of numbers beside it; that of the first, in
which TF-slim's files are published, holds the numbers. Sources: `tensor_bundle.proto`,
`saved_tensor_slice.proto` and `tensor_shape.proto` of TensorFlow; LevelDB's `doc/table_format.md`.
"""

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np

from convert.formats.contents import Contents
from convert.formats.wire import (
    as_bytes,
    bytes_of,
    number_of,
    read_fields,
    read_varint,
    read_varints,
)
from flaxmobile.errors import InputError

INDEX_END = bytes.fromhex("57fb808b247547db")
"""The last bytes of a table."""
_FOOTER = 48
"""Bytes of a table's end: places of two blocks, padding, and `INDEX_END`."""

DTYPES = {
    1: np.dtype("<f4"),
    2: np.dtype("<f8"),
    3: np.dtype("<i4"),
    9: np.dtype("<i8"),
    14: np.dtype(ml_dtypes.bfloat16),
    19: np.dtype("<f2"),
}
"""TensorFlow's number of a type -> NumPy's."""

_AVERAGE = "/ExponentialMovingAverage"
_POINTWISE = "/pointwise_weights"
_ACCEPTED = (
    "accepted: a checkpoint of tf.train.Saver: the .index, with its .data files beside it, or one "
    "file of the first format"
)
_PLACES = {"<f4": 5, "<f8": 6, "<i4": 7, "<i8": 10}
"""NumPy's type -> the field of a `TensorProto` that has its numbers."""

_Pairs = Iterator[tuple[bytes, bytes]]
_Tensors = Iterator[tuple[str, np.ndarray]]


class _Entry(NamedTuple):
    """A tensor of the index: its type, shape, and place in a file of numbers."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int


def is_table(path: Path) -> bool:
    """Tell whether a file ends as tables do."""
    with path.open("rb") as file:
        file.seek(-min(len(INDEX_END), path.stat().st_size), 2)
        return file.read() == INDEX_END


def read_checkpoint(path: Path) -> Contents:
    """Read a checkpoint, given by its table; averages of training stand for what they average.

    Raises:
      InputError: a file is damaged, missing or compressed, or a tensor has another type.
    """
    try:
        tensors = dict(_read(path))
    except InputError as error:
        raise InputError(f"{path} {error}; {_ACCEPTED}") from None
    except (
        IndexError,
        OverflowError,
        StopIteration,
        KeyError,
        ValueError,
        struct.error,
        UnicodeDecodeError,
    ):
        raise InputError(f"{path} is damaged, or no checkpoint; {_ACCEPTED}") from None
    if not tensors:
        raise InputError(f"{path} holds no tensors; {_ACCEPTED}")
    averages = {name for name in tensors if name.endswith(_AVERAGE)}
    for name in averages:
        tensors[name.removesuffix(_AVERAGE)] = tensors.pop(name)
    note = f"took the averages of training ({_AVERAGE[1:]}) of {len(averages)} tensors"
    return Contents(with_one_word_for_kernels(tensors), notes=(note,) if averages else ())


def with_one_word_for_kernels(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Call all kernels `weights`; the two layers of a separable convolution get a scope each."""
    ends = _POINTWISE, "/depthwise_weights", "/biases"
    scopes = {name.removesuffix(_POINTWISE) for name in tensors if name.endswith(_POINTWISE)}
    separable = {scope + end for scope in scopes for end in ends}

    def renamed(name: str) -> str:
        if name not in separable:
            return name.replace("depthwise_weights", "weights")
        return name.replace("_weights", "/weights").replace("/biases", "/pointwise/biases")

    return {renamed(name): tensors[name] for name in tensors}


def _read(path: Path) -> _Tensors:
    """Return the tensors by name, in the order of the table."""
    pairs = _pairs(path.read_bytes())
    key, message = next(pairs)
    header = dict(read_fields(message))
    if key:
        raise InputError("holds no tensors of a checkpoint")
    if isinstance(header.get(1), bytes):
        return _tensors_inside(bytes_of(header, 1), pairs)
    return _tensors_beside(path, number_of(header, 1), pairs)


def _tensors_beside(path: Path, shards: int, pairs: _Pairs) -> _Tensors:
    """Yield the tensors of the second format, whose numbers are in `shards` other files."""
    stem = path.name.removesuffix(".index")
    files = [path.with_name(f"{stem}.data-{n:05}-of-{shards:05}") for n in range(shards)]
    for key, value in pairs:
        entry, name = _entry(value), key.decode()
        if entry.dtype not in DTYPES:
            raise InputError(f"holds {name!r} of TensorFlow's type {entry.dtype}")
        yield name, _numbers(files[entry.shard], name, entry)


def _tensors_inside(header: bytes, pairs: _Pairs) -> _Tensors:
    """Yield the tensors of the first format, which are `SavedSlice`s; the header has the shapes."""
    facts = [
        dict(read_fields(as_bytes(value))) for place, value in read_fields(header) if place == 1
    ]
    known = {bytes_of(each, 1).decode(): each for each in facts}
    for _, message in pairs:
        saved = dict(read_fields(bytes_of(dict(read_fields(message)), 2)))
        name = bytes_of(saved, 1).decode()
        shape, kind = read_shape(bytes_of(known[name], 2)), number_of(known[name], 3)
        dtype = DTYPES.get(kind, np.dtype(np.void))
        if dtype.str not in _PLACES:
            raise InputError(f"holds {name!r} of TensorFlow's type {kind}")
        content = bytes_of(dict(read_fields(bytes_of(saved, 3))), _PLACES[dtype.str])
        is_integer = dtype.kind == "i"
        numbers = read_varints(content) if is_integer else np.frombuffer(content, dtype)
        if len(numbers) != math.prod(shape):
            raise InputError(f"holds {name!r} in slices")
        yield name, np.asarray(numbers, dtype).reshape(shape)


def _numbers(file: Path, name: str, entry: _Entry) -> np.ndarray:
    """Read the numbers of a tensor."""
    dtype = DTYPES[entry.dtype]
    if math.prod(entry.shape) * dtype.itemsize != entry.size:
        raise ValueError("another size than the shape's")
    try:
        with file.open("rb") as stream:
            if entry.offset + entry.size > file.stat().st_size:
                raise InputError(f"needs all of {file.name}, which ends within {name!r}")
            stream.seek(entry.offset)
            content = stream.read(entry.size)
    except OSError as error:
        raise InputError(f"needs {file.name} beside it: {error.strerror}") from None
    return np.frombuffer(content, dtype).reshape(entry.shape)


def _entry(message: bytes) -> _Entry:
    """Decode a `BundleEntryProto`."""
    fields = dict(read_fields(message))
    if 7 in fields:
        raise InputError("holds tensors in slices")
    shape = read_shape(bytes_of(fields, 2))
    return _Entry(number_of(fields, 1), shape, *(number_of(fields, place) for place in (3, 4, 5)))


def read_shape(message: bytes) -> tuple[int, ...]:
    """Decode a `TensorShapeProto`.

    Raises:
      ValueError, IndexError: it is damaged.
    """
    axes = (dict(read_fields(as_bytes(axis))) for _, axis in read_fields(message))
    return tuple(number_of(axis, 1) for axis in axes)


def _pairs(table: bytes) -> _Pairs:
    """Yield the pairs of key and value of a table."""
    footer = table[-_FOOTER:]
    if not footer.endswith(INDEX_END):
        raise InputError("is no index")
    place = 0
    for _ in range(2):  # of the block of metadata, which is empty
        _, place = read_varint(footer, place)
    for _, handle in _block(table, *_handle(footer, place)):
        yield from _block(table, *_handle(handle, 0))


def _handle(content: bytes, place: int) -> tuple[int, int]:
    """Read offset and size of a block."""
    offset, place = read_varint(content, place)
    return offset, read_varint(content, place)[0]


def _block(table: bytes, offset: int, size: int) -> _Pairs:
    """Yield the pairs of a block; a key omits what it shares with the one before it."""
    block = table[offset : offset + size]
    if table[offset + size]:
        raise InputError("is compressed")
    (restarts,) = struct.unpack("<I", block[-4:])
    key, place, end = b"", 0, size - 4 * (restarts + 1)
    while place < end:
        shared, place = read_varint(block, place)
        own, place = read_varint(block, place)
        length, place = read_varint(block, place)
        key = key[:shared] + block[place : place + own]
        place += own
        yield key, block[place : place + length]
        place += length
