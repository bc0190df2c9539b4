"""Torch files: read as tensors by name without torch, written as a state dict.

No pickled code is executed. Both formats hold a pickle, in which tensors refer to storages:

- a zip archive (torch 1.6 and later, and TorchScript): `data.pkl`, and a member per storage;
- the older format: four pickles, the fourth of which is the content, a list of the storages' keys,
  and the storages one after another.

Source of the facts: `torch.serialization`.
"""

import io
import mmap
import os
import re
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from convert.formats.checkpoints import ACCEPTED, choose_state
from convert.formats.contents import Contents, Naming
from convert.formats.pickles import Record, unpickle
from convert.formats.qtensors import REBUILD, read_numbers, shows_quantization
from convert.formats.storages import Place, Storage, check_places, storage_of
from convert.formats.unread import describe_archive
from flaxmobile.errors import InputError, pip_install

_ZIP = b"PK\x03\x04"
_MAGIC = 0x1950A86A20F9469CFC6C
"""The first pickle of the older format."""
_LOCAL_HEADER = 30
"""Bytes of a member's header in a zip archive, up to its name."""
_NEEDED = re.compile(r"data\.pkl|byteorder|data/[^/]+")
"""Names of members that are read; the others are code, versions and constants."""
_COUNT = 8
"""Bytes of a storage's number of elements, which stands before it in the older format."""


class _Archive(NamedTuple):
    """A file's pickled content, and the places of its storages by key."""

    content: Any
    places: Mapping[str, Place]


def read_torch(path: Path, key: str | None = None) -> Contents:
    """Read a torch file: a state dict, a checkpoint with one, a pickled or TorchScript module.

    Args:
      path: of the file.
      key: where in a checkpoint the state dict stands, with dots; by default it is looked for.

    Raises:
      InputError: the file is damaged, or holds no state dict, or several.
    """
    try:
        with path.open("rb") as file:
            zipped = file.read(len(_ZIP)) == _ZIP
            archive = _open_zip(path, file) if zipped else _open_older(path, file)
        state, notes = choose_state(path, archive.content, key)
        tensors = read_numbers(path, state.tensors, archive.places)
        naming: Naming = "quantized" if shows_quantization(tensors) else "stated"
        return Contents(tensors, notes=notes, naming=naming)
    except InputError:
        raise
    except Exception:  # a damaged file raises whatever its bytes happen to mean
        raise InputError(f"{path} is damaged or not a torch file; {ACCEPTED}") from None


def _open_zip(path: Path, file: BinaryIO) -> _Archive:
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
    pickles = [member.filename for member in members if member.filename.endswith("data.pkl")]
    if not pickles:
        what = describe_archive([member.filename for member in members])
        raise InputError(f"{path} is {what or f'a zip archive without data.pkl; {ACCEPTED}'}")
    top = min(pickles, key=len).removesuffix("data.pkl")
    needed = [(member.filename.removeprefix(top), member) for member in members]
    needed = [(name, member) for name, member in needed if _NEEDED.fullmatch(name)]
    places = {name: _place_of(file, member) for name, member in needed}
    packed = [name for name, member in needed if member.compress_type or member.flag_bits & 1]
    if len(places) < len(needed) or packed:
        fault = "packed members" if packed else "two members of one name"
        raise InputError(f"{path} holds {fault}, as torch never writes them; {ACCEPTED}")
    check_places(places.values())
    order = places["byteorder"].read(file).tobytes() if "byteorder" in places else b"little"
    if order != b"little":
        raise InputError(f"{path} holds big-endian numbers, which are not read; {ACCEPTED}")
    program = io.BytesIO(places["data.pkl"].read(file).tobytes())
    content = unpickle(program, REBUILD, storage_of)
    return _Archive(content, {name.removeprefix("data/"): place for name, place in places.items()})


def _place_of(file: BinaryIO, member: zipfile.ZipInfo) -> Place:
    """Find a member's bytes, which stand behind a header of its own."""
    file.seek(member.header_offset)
    header = file.read(_LOCAL_HEADER)
    name_size, extra_size = struct.unpack("<HH", header[-4:])
    start = member.header_offset + _LOCAL_HEADER + name_size + extra_size
    return Place(start, member.file_size, member.CRC)


def _open_older(path: Path, file: BinaryIO) -> _Archive:
    used: dict[str, Storage] = {}

    def use(identifier: Any) -> Storage:
        storage = storage_of(identifier)
        return used.setdefault(storage.key, storage)

    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if (magic := unpickle(content, {}, use)) != _MAGIC:
            kind = magic.kind if isinstance(magic, Record) else type(magic).__name__
            raise InputError(f"{path} holds a pickled {kind}, not a torch file; {ACCEPTED}")
        unpickle(content, {}, use)  # the format's version
        if not unpickle(content, {}, use)["little_endian"]:
            raise InputError(f"{path} holds big-endian numbers, which are not read; {ACCEPTED}")
        tensors = unpickle(content, REBUILD, use)
        places = {}
        for key in unpickle(content, {}, use):
            count = int.from_bytes(content.read(_COUNT), "little")
            places[key] = Place(content.tell(), count * used[key].dtype.itemsize)
            content.seek(places[key].size, os.SEEK_CUR)
    return _Archive(tensors, places)


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
        raise InputError(
            f"torch files are written by torch: {pip_install('torch')}, or choose a "
            ".safetensors file"
        ) from None
    return torch
