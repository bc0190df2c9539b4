"""Image files below a folder: which files count, and what is left out."""

import functools
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from flaxmobile.errors import shorten
from flaxmobile.images import register_heif

_FORMATS = ("AVIF", "BMP", "GIF", "HEIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Formats of photographs, in PIL's names."""

Identity = tuple[int, int]
"""Device and inode of a folder, whatever links lead to it."""

_HEIF_SUFFIXES = (".heic", ".heif", ".hif")

_SYSTEM = {
    "__macosx", "lost+found", "@eadir", "#recycle", "$recycle.bin", "system volume information",
    "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r",
}  # fmt: skip
"""What macOS, Windows, Linux and network drives leave in folders, in lower case."""

HIDDEN = "hidden or system files and folders"
OTHER = "files that are no images"
LOOP = "links to a folder that holds them or was read already"
BESIDE = "files and folders beside the classes or splits"
NO_LABEL = "images without a label"
HEIF = "HEIC files, which pip install pillow-heif makes readable"


class LeftOut:
    """What was left out of a data set, by reason."""

    def __init__(self) -> None:
        self._paths: dict[str, set[str]] = defaultdict(set)

    def add(self, reason: str, path: str) -> None:
        """Note the path of a file or folder under one of the reasons above."""
        self._paths[reason].add(path)

    def describe(self) -> str | None:
        """Say in one line how many were left out and why; None if there are none."""
        parts = [
            f"{reason} ({len(paths)}: {shorten(sorted({Path(p).name for p in paths}), 4)})"
            for reason, paths in self._paths.items()
        ]
        return f"left out: {'; '.join(parts)}" if parts else None


def visible_entries(folder: Path, left_out: LeftOut) -> Iterator[os.DirEntry[str]]:
    """Yield the entries of a folder by name, without hidden ones and links that lead back."""
    above = folders_above(folder)
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.is_dir():
                keep = _is_new(str(folder), entry.name, set(above), left_out)
            else:
                keep = _is_visible(str(folder), entry.name, left_out)
            if keep:
                yield entry


def image_files(folder: Path, left_out: LeftOut) -> list[str]:
    """List the image files below a folder, in the order of torchvision's `ImageFolder`.

    Links are followed. A folder that is reached twice is read once, so links may form circles.
    """
    read = folders_above(folder)
    found: list[tuple[str, list[str]]] = []
    for directory, folders, names in os.walk(folder, followlinks=True, onerror=_raise):
        folders[:] = [name for name in sorted(folders) if _is_new(directory, name, read, left_out)]
        found.append((directory, [n for n in names if _is_visible(directory, n, left_out)]))
    paths = (
        os.path.join(directory, name)  # noqa: PTH118 - millions of files
        for directory, names in sorted(found)
        for name in sorted(names)
    )
    return [path for path in paths if _is_image(path, left_out)]


def folders_above(folder: Path) -> set[Identity]:
    """Return the identities of a folder and of all that hold it, by its path and by its links."""
    path, real = folder.absolute(), folder.resolve()
    return {_identity(p) for p in (path, *path.parents, real, *real.parents)}


def _is_visible(directory: str, name: str, left_out: LeftOut) -> bool:
    """Tell whether a file or folder is neither hidden nor of an operating system."""
    if name.startswith(".") or name.lower() in _SYSTEM:
        left_out.add(HIDDEN, os.path.join(directory, name))  # noqa: PTH118 - millions of files
        return False
    return True


def _is_new(directory: str, name: str, read: set[Identity], left_out: LeftOut) -> bool:
    """Tell whether a folder is visible and not yet read, and count it as read."""
    if not _is_visible(directory, name, left_out):
        return False
    path = os.path.join(directory, name)  # noqa: PTH118
    identity = _identity(path)
    if identity in read:
        left_out.add(LOOP, path)
        return False
    read.add(identity)
    return True


def _identity(folder: str | Path) -> Identity:
    found = os.stat(folder)  # noqa: PTH116 - for folders that are strings
    return found.st_dev, found.st_ino


def _raise(error: OSError) -> None:
    raise error


@functools.cache
def image_suffixes() -> set[str]:
    """Return the suffixes of images that can be read here, in lower case."""
    register_heif()
    Image.init()
    known = Image.registered_extensions().items()
    return {suffix for suffix, name in known if name in _FORMATS and name in Image.OPEN}


def _is_image(path: str, left_out: LeftOut) -> bool:
    """Tell by its suffix whether a file is an image, or under another suffix by its content."""
    suffix = os.path.splitext(path)[1].lower()  # noqa: PTH122 - millions of files
    if suffix in image_suffixes():
        return True
    if suffix in _HEIF_SUFFIXES:
        left_out.add(HEIF, path)
        return False
    try:
        with Image.open(path, formats=[f for f in _FORMATS if f in Image.OPEN]):
            return True
    except Exception:  # damaged headers raise anything, from struct.error to SyntaxError
        left_out.add(OTHER, path)
        return False
