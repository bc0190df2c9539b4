"""Torch files: read as tensors by name, written as a state dict; no pickled code is executed."""

import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np

from convert.formats.contents import Contents
from flaxmobile.errors import InputError

_WRAPPERS = ("state_dict", "model")
_ACCEPTED = "accepted: a state dict of float32 tensors, alone or under 'state_dict' or 'model'"


def read_torch(path: Path) -> Contents:
    """Read a torch file, of the zip or the older format.

    Raises:
      InputError: the file is damaged, or holds anything but named tensors.
    """
    return Contents(_named_tensors(path, _unpickle(path)))


def torch_state(tensors: Mapping[str, np.ndarray], version: int = 1) -> Any:
    """Turn arrays into a torch state dict of a module of that version."""
    torch = _import_torch()
    state: Any = OrderedDict((name, torch.tensor(array)) for name, array in tensors.items())
    state._metadata = {"": {"version": version}}  # where `Module.load_state_dict` looks for it
    return state


def write_torch(path: Path, tensors: Mapping[str, np.ndarray], version: int = 1) -> None:
    """Write a torch state dict of a module of that version.

    Raises:
      OSError: the file cannot be written, wholly or in part.
    """
    torch, state = _import_torch(), torch_state(tensors, version)
    try:
        with path.open("wb") as file:
            torch.save(state, file)
    except RuntimeError as error:  # torch's complaint after the disk's
        raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None


def _import_torch() -> ModuleType:
    try:
        import torch
    except ImportError:
        raise InputError("torch files need torch: pip install 'flaxmobile[torch]'") from None
    return torch


def _unpickle(path: Path) -> Any:
    torch = _import_torch()
    try:
        with warnings.catch_warnings():  # the error below says what they say
            warnings.simplefilter("ignore")
            mapped = zipfile.is_zipfile(path)  # read when needed, without using memory
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # a damaged file raises whatever its bytes happen to mean
        if found := re.search(r"GLOBAL (\w+(?:\.\w+)*)", str(error)):
            raise InputError(
                f"{path} holds a pickled {found[1]}, which is not executed; {_ACCEPTED}"
            ) from None
        raise InputError(f"{path} is damaged or not a torch file; {_ACCEPTED}") from None


def _named_tensors(path: Path, content: Any) -> dict[str, np.ndarray]:
    if not isinstance(content, Mapping):
        raise InputError(f"{path} holds a {type(content).__name__}; {_ACCEPTED}")
    wrapped = [key for key in _WRAPPERS if isinstance(content.get(key), Mapping)]
    if len(wrapped) > 1:
        raise InputError(f"{path} holds two state dicts, 'state_dict' and 'model'; {_ACCEPTED}")
    state = content[wrapped[0]] if wrapped else content
    tensors, others = {}, []
    for name, value in state.items():
        array = _to_numpy(value)
        if array is None or not isinstance(name, str):
            others.append(f"{name!r} ({getattr(value, 'dtype', type(value).__name__)})")
        else:
            tensors[name] = array
    if others or not tensors:
        raise InputError(f"{path} holds {', '.join(others) or 'no tensors'}; {_ACCEPTED}")
    return tensors


def _to_numpy(value: Any) -> np.ndarray | None:
    """Return the tensor's numbers without a copy; None where NumPy has no such type."""
    torch = _import_torch()
    try:
        if value.dtype == torch.bfloat16:  # torch does not know NumPy's
            return value.detach().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
        return value.detach().numpy()
    except (AttributeError, TypeError, RuntimeError):
        return None
