"""Safetensors files: tensors by name in and out, without torch."""

import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401 (gives NumPy the name bfloat16, which safetensors then finds)
import numpy as np

from convert.formats.contents import Contents
from flaxmobile.errors import InputError, pip_install, shorten


def is_start_of_safetensors(head: bytes) -> bool:
    """Tell whether a file begins as safetensors files do: the header's length, then JSON."""
    return head[8:10] == b'{"'


def read_safetensors(path: Path) -> Contents:
    """Read a safetensors file.

    Raises:
      InputError: the file is damaged, or holds no tensors, two of one name, or one of a type that
        NumPy lacks.
    """
    library = _import_safetensors()
    tensors, others = {}, []
    try:
        with library.safe_open(path, framework="np") as file:
            for name in file.offset_keys():
                try:
                    tensors[name] = file.get_tensor(name)
                except (AttributeError, TypeError):
                    others.append(f"{name!r} ({file.get_slice(name).get_dtype()})")
    except library.SafetensorError as error:
        raise InputError(f"{path} is damaged or not a safetensors file: {error}") from None
    others += [f"two tensors named {name!r}" for name in _doubled(path)]
    if others or not tensors:
        raise InputError(
            f"{path} holds {shorten(others) or 'no tensors'}; accepted: float32 tensors"
        )
    return Contents(tensors)


def _doubled(path: Path) -> list[str]:
    """List the names that are in the header twice; the library returns only the last of each."""
    with path.open("rb") as file:
        header = file.read(int.from_bytes(file.read(8), "little"))
    names = json.loads(header, object_pairs_hook=lambda pairs: [name for name, _ in pairs])
    return [name for name, count in Counter(names).items() if count > 1]


def write_safetensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write a safetensors file, marked as torch's names and axes.

    Raises:
      OSError: the file cannot be written, wholly or in part.
    """
    library = _import_safetensors()
    from safetensors.numpy import save_file

    contiguous = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    try:
        save_file(contiguous, path, metadata={"format": "pt"})
    except library.SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None


def _import_safetensors() -> Any:
    try:
        import safetensors
    except ImportError:
        raise InputError(f"safetensors files need safetensors: {pip_install('hub')}") from None
    return safetensors
