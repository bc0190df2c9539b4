"""Files of weights: tensors by name in, tensors by name out, whatever the format."""

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from convert.torch_files import encode_torch, read_torch
from flaxmobile.errors import InputError

_HEAD = 16
"""How many bytes from its start tell a file's format."""


class Source(NamedTuple):
    """A file's tensors by name, and its SHA-256."""

    tensors: dict[str, np.ndarray]
    sha256: str


class Format(NamedTuple):
    """A kind of file.

    Attributes:
      suffixes: of its names.
      is_start_of: whether a file that starts with these bytes is surely one of these, whatever its
        name.
      read: path -> tensors by name; raises InputError, which names the path, for any damage.
    """

    suffixes: tuple[str, ...]
    is_start_of: Callable[[bytes], bool]
    read: Callable[[Path], dict[str, np.ndarray]]


FORMATS: tuple[Format, ...] = ()
"""All but torch's, which is taken for what is none of these."""


def read_source(path: Path) -> Source:
    """Read a file of weights, whose format shows in its first bytes or else its suffix.

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
    return Source(_reader(path, head)(path), digest)


def _reader(path: Path, head: bytes) -> Callable[[Path], dict[str, np.ndarray]]:
    by_content = [format.read for format in FORMATS if format.is_start_of(head)]
    by_name = [format.read for format in FORMATS if path.name.endswith(format.suffixes)]
    return next(iter([*by_content, *by_name]), read_torch)


def write_torch(path: Path, tensors: Mapping[str, np.ndarray], version: int = 1) -> None:
    """Write a torch state dict; the file appears complete or not at all. Makes its parents."""
    content = encode_torch(tensors, version)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        draft.write_bytes(content)
        draft.rename(path)
    finally:
        draft.unlink(missing_ok=True)
