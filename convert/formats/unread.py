"""Files that are not read: what they are, and which way leads from them to here."""

import re
from collections.abc import Sequence
from pathlib import Path

from flaxmobile.errors import shorten

_FROM_TORCH = "save the state dict of the torch network that it was made from"
_FROM_KERAS = "load it in TensorFlow and save the model's weights as .h5"

_STARTS = {
    rb"\x08\x01\x12": f"TensorFlow's SavedModel: {_FROM_KERAS}",
    rb"\s*<(!|html)": "a web page: download the file itself",
    rb"version https://git-lfs": "a pointer of Git LFS: fetch the file itself with git lfs pull",
    rb"\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|7z\xbc\xaf": "compressed: unpack it first",
}
"""Pattern of the first bytes -> what the file is."""

_NAMES = {
    r".*\.data-\d{5}-of-\d{5}": "the numbers of a TensorFlow checkpoint: name its .index file",
    r".*\.mlmodel": f"a Core ML file: {_FROM_TORCH}, or Keras's weights",
}
"""Pattern of the file's name -> what the file is."""

_INSIDE = {
    "saved_model.pb": f"TensorFlow's SavedModel: {_FROM_KERAS}",
    "model.json": "a weights directory already: flaxmobile.load_weights reads it",
}
"""File in a directory -> what the directory is."""

_MEMBERS = {
    r".*/serialized_exported_program\.json|.*/models/.*\.json": f"a torch.export archive: "
    f"{_FROM_TORCH}",
    r"model\.weights\.h5": "Keras's archive: give its name the suffix .keras",
    r".*\.npy": "NumPy's archive: give its name the suffix .npz",
    r".*\.mlmodel": f"a Core ML package: {_FROM_TORCH}, or Keras's weights",
}
"""Pattern of a name in a zip archive -> what the archive is."""


def describe_unread(path: Path, head: bytes) -> str | None:
    """Say what a file or directory is, and which way leads here; None where it may be read.

    Args:
      path: of the file.
      head: its first bytes; none of a directory.
    """
    if path.is_dir():
        found = [what for name, what in _INSIDE.items() if (path / name).exists()]
        files = sorted(each.name for each in path.iterdir() if each.is_file())
        return found[0] if found else f"a directory: name a file in it, such as {shorten(files, 4)}"
    by_name = [what for name, what in _NAMES.items() if re.fullmatch(name, path.name)]
    by_start = [what for start, what in _STARTS.items() if re.match(start, head, re.DOTALL)]
    if by_name or by_start:
        return [*by_name, *by_start][0]
    return None if head else "empty"


def describe_archive(names: Sequence[str]) -> str | None:
    """Say what a zip archive is that torch did not write, by the names of its members."""
    for pattern, what in _MEMBERS.items():
        if any(re.fullmatch(pattern, name) for name in names):
            return what
    return None
