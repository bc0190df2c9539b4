"""Files of weights: tensors by name in, tensors by name out, whatever the format."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np

from convert.formats.contents import NOTHING_SAID, Contents, Head, Statements
from convert.formats.keras import SUFFIXES, is_start_of_hdf5, read_keras
from convert.formats.safetensors import (
    is_start_of_safetensors,
    read_safetensors,
    write_safetensors,
)
from convert.formats.tflite import is_start_of_tflite, read_tflite
from convert.formats.torch import read_torch, write_torch
from flaxmobile.errors import InputError
from flaxmobile.files import written_at_once

_HEAD = 16
"""Bytes at the start of a file that show its format."""


class Source(NamedTuple):
    """A file of weights.

    Attributes:
      tensors: by name.
      sha256: of the file.
      precision: of its floating-point tensors, before they were widened.
      said: the file's own statements.
      notes, head: see `Contents`.
    """

    tensors: dict[str, np.ndarray]
    sha256: str
    precision: str = "float32"
    said: Statements = NOTHING_SAID
    notes: tuple[str, ...] = ()
    head: Head | None = None


Read = Callable[[Path], Contents]


class Format(NamedTuple):
    """A kind of file.

    Attributes:
      suffixes: of its names.
      is_start_of: says whether a file that starts with these bytes has this format, whatever its
        name.
      read: path -> contents; raises InputError, which names the path, for any damage.
    """

    suffixes: tuple[str, ...]
    is_start_of: Callable[[bytes], bool]
    read: Read


FORMATS: tuple[Format, ...] = (
    Format((".safetensors",), is_start_of_safetensors, read_safetensors),
    Format((".tflite",), is_start_of_tflite, read_tflite),
    Format(SUFFIXES, is_start_of_hdf5, read_keras),
)
"""All formats but torch's, which is assumed for any other file."""

_HALVES = (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))


def read_source(path: Path) -> Source:
    """Read a file of weights, whose first bytes, or otherwise its suffix, show the format.

    A file that is in half precision throughout is widened to float32, which changes no number. A
    single tensor of another type stays as it is, and the rule refuses it.

    Raises:
      InputError: the file cannot be read, is damaged, or holds anything but named tensors.
    """
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            head = file.read(_HEAD)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    tensors, said, notes, last = _reader(path, head)(path)
    kinds = {array.dtype for array in tensors.values() if array.dtype.kind not in "iub"}
    if len(kinds) != 1 or not kinds.issubset(_HALVES):
        return Source(tensors, digest, said=said, notes=notes, head=last)
    for name, array in tensors.items():
        if array.dtype in kinds:
            tensors[name] = array.astype(np.float32)  # one at a time, for the sake of memory
    return Source(tensors, digest, kinds.pop().name, said, notes, last)


def _reader(path: Path, head: bytes) -> Read:
    by_content = [format.read for format in FORMATS if format.is_start_of(head)]
    by_name = [format.read for format in FORMATS if path.name.endswith(format.suffixes)]
    return next(iter([*by_content, *by_name]), read_torch)


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray], version: int = 1) -> None:
    """Write a safetensors file if the suffix says so, otherwise a torch state dict.

    The file appears complete or not at all. Missing parents are created.

    Args:
      path: where.
      tensors: by the names of a torch module.
      version: of that module.

    Raises:
      InputError: a safetensors file cannot say the version, and the module is not of the first.
    """
    plain = path.suffix == ".safetensors"
    if plain and version != 1:
        raise InputError(
            f"the module has version {version}, which {path} cannot store; accepted: a .pth file"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_at_once(path) as draft:
        if plain:
            write_safetensors(draft, tensors)
        else:
            write_torch(draft, tensors, version)
