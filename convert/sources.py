"""Files of weights: tensors by name in, tensors by name out, whatever the format."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np

from convert.formats.contents import NOTHING_SAID, Contents, Head, Naming, Statements
from convert.formats.keras import SUFFIXES, is_start_of_hdf5, read_keras
from convert.formats.npz import read_npz
from convert.formats.onnx import is_start_of_onnx, read_onnx
from convert.formats.safetensors import (
    is_start_of_safetensors,
    read_safetensors,
    write_safetensors,
)
from convert.formats.tf_checkpoint import is_table, read_checkpoint
from convert.formats.tf_graph import is_start_of_graph, read_graph
from convert.formats.tfjs import is_start_of_json, read_tfjs
from convert.formats.tflite import is_start_of_tflite, read_tflite
from convert.formats.torch import read_torch, write_torch
from convert.formats.unread import describe_unread
from flaxmobile.errors import InputError
from flaxmobile.files import written_at_once

_HEAD = 64
"""Bytes at the start of a file that show its format."""


class Selection(NamedTuple):
    """The user's word on which tensors of a file are meant, and how they are read.

    Attributes:
      weights_key: place of a state dict in a torch checkpoint, with dots; by default it is found.
      prefix: before the network's names; by default it is found.
      allow_narrowing: round float64 to float32.
    """

    weights_key: str | None = None
    prefix: str | None = None
    allow_narrowing: bool = False


FOUND = Selection()
"""All is found without the user's word."""


class Source(NamedTuple):
    """A file of weights.

    Attributes:
      tensors: by name.
      sha256: of the file.
      precision: of its floating-point tensors.
      said: the file's own statements.
      notes, head, naming: see `Contents`.
    """

    tensors: dict[str, np.ndarray]
    sha256: str
    precision: str = "float32"
    said: Statements = NOTHING_SAID
    notes: tuple[str, ...] = ()
    head: Head | None = None
    naming: Naming = "stated"


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
    Format((".onnx",), is_start_of_onnx, read_onnx),
    Format((".tflite",), is_start_of_tflite, read_tflite),
    Format(SUFFIXES, is_start_of_hdf5, read_keras),
    Format((".json",), is_start_of_json, read_tfjs),
    Format((".index",), lambda head: False, read_checkpoint),  # its last bytes show it, `is_table`
    Format((".pb",), is_start_of_graph, read_graph),
    Format((".npz",), lambda head: False, read_npz),  # a zip archive, as torch's files are
)
"""All formats but torch's, which is assumed for any other file."""

_HALVES = (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))


def read_source(path: Path, selection: Selection = FOUND) -> Source:
    """Read a file of weights, whose first bytes, or otherwise its suffix, show the format.

    Numbers in half precision are widened to float32, and float64 is narrowed where that changes no
    number. Any other tensor stays as it is, and the rule refuses it.

    Args:
      path: of the file.
      selection: the user's.

    Raises:
      InputError: the file cannot be read, is damaged, or holds anything but named tensors.
    """
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            head = file.read(_HEAD)
    except IsADirectoryError:
        raise InputError(f"{path} is {describe_unread(path, b'')}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    read = _reader(path, head, selection.weights_key)
    tensors, said, notes, last, naming = read(path)
    kinds = {array.dtype for array in tensors.values() if array.dtype.kind not in "iub"}
    changes = list(_to_float32(tensors, selection.allow_narrowing))
    precision = " and ".join(sorted(kind.name for kind in kinds)) if changes else "float32"
    if naming == "quantized":
        precision = "int8"
    return Source(tensors, digest, precision, said, (*notes, *changes), last, naming)


def _to_float32(tensors: dict[str, np.ndarray], allow_narrowing: bool) -> Iterator[str]:
    """Turn halves and float64 into float32 in place, and yield what was done."""
    widened, rounded, narrowed = set(), [], 0
    for name, array in tensors.items():  # one at a time, for the sake of memory
        if array.dtype in _HALVES:
            tensors[name] = array.astype(np.float32)
            widened.add(array.dtype.name)
        elif array.dtype == np.float64:
            with np.errstate(over="ignore"):
                narrow = array.astype(np.float32)
            exact = np.array_equal(narrow, array, equal_nan=True)
            if exact or allow_narrowing:
                tensors[name] = narrow
                narrowed += 1
                rounded += [] if exact else [name]
    if widened:
        yield f"widened from {' and '.join(sorted(widened))}, which changes no number"
    if rounded:
        yield f"narrowed from float64, which rounds numbers of {len(rounded)} tensors"
    elif narrowed:
        yield "narrowed from float64, which changes no number"


def _reader(path: Path, head: bytes, key: str | None) -> Read:
    by_content = [format.read for format in FORMATS if format.is_start_of(head)]
    by_content += [read_checkpoint] * is_table(path)
    by_name = [format.read for format in FORMATS if path.name.endswith(format.suffixes)]
    if not by_content and (what := describe_unread(path, head)):
        raise InputError(f"{path} is {what}")
    if key is None or not (by_content or by_name):
        return next(iter([*by_content, *by_name]), partial(read_torch, key=key))
    raise InputError(f"{path} is no torch checkpoint: leave --weights-key out")


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
