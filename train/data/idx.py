"""Data sets in IDX files, the format of MNIST."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from flaxmobile.errors import InputError
from train.data.arrays import ArraySource
from train.data.augment import augment_digit
from train.data.digits import PRESET
from train.data.holdout import ensure_validation
from train.data.records import Dataset, Selection

_UINT8 = 0x08
"""Code of the type of the values; others have no use in images."""

_PARTS = {"train": ("train",), "test": ("t10k", "test")}
"""Split -> words of which one is in the names of its files."""


def open_idx(name: str, path: Path, selection: Selection) -> Dataset:
    """Open a folder of IDX files, see `train.data.open_dataset`."""
    if not path.is_dir():
        raise InputError(f"{path} is not a folder: idx:DIR needs one with train-images-idx3-ubyte")
    train = _read_split(path, "train")
    if train is None:
        raise InputError(f"{path} has no IDX file of training images (train-images-idx3-ubyte.gz)")
    test = _read_split(path, "test")
    count = 1 + max(int(source.classes.max()) for source in (train, test) if source)
    train, validation, notes = ensure_validation(train, None, selection, str(path))
    return Dataset(
        name=name,
        class_names=tuple(map(str, range(count))),
        train=train,
        validation=validation,
        test=test,
        augment=augment_digit,
        preset=PRESET,
        workers=0,
        notes=notes,
    )


def read_idx(path: Path) -> np.ndarray:
    """Read an IDX file of bytes, gzipped or not.

    Raises:
      InputError: a file that is damaged, or holds other numbers.
    """
    content = path.read_bytes()
    try:
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
        zero, kind, axes = struct.unpack_from(">HBB", content)
        shape = struct.unpack_from(f">{axes}I", content, 4)
    except (OSError, EOFError, struct.error, zlib.error) as error:
        raise InputError(f"{path} is damaged: {error}") from None
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * axes)
    if zero != 0 or kind != _UINT8 or len(values) != math.prod(shape) or not values.size:
        raise InputError(
            f"{path} is not an IDX file of bytes: its header says type {kind:#04x}, shape "
            f"{list(shape)}, and {len(values)} bytes follow"
        )
    return values.reshape(shape)


def _read_split(path: Path, split: str) -> ArraySource | None:
    """Read images and labels of a split; None if there are no such files."""
    files = [_find(path, split, content) for content in ("images", "labels")]
    if not any(files):
        return None
    if not all(files):
        raise InputError(f"{path} has only images or only labels of its {split} split")
    images, labels = (read_idx(file) for file in files if file)
    grey, color = images.ndim == 3, images.ndim == 4 and images.shape[3] == 3
    if not (grey or color) or labels.ndim != 1 or len(images) != len(labels):
        raise InputError(
            f"{files[0]} has the shape {list(images.shape)}, and {files[1]} {list(labels.shape)}; "
            "accepted: [n, height, width] and [n]"
        )
    return ArraySource(str(files[0]), images, labels)


def _find(path: Path, split: str, content: str) -> Path | None:
    found = [
        file
        for file in sorted(path.iterdir())
        if content in file.name
        and "idx" in file.name
        and any(word in file.name for word in _PARTS[split])
    ]
    if len({file.name.removesuffix(".gz") for file in found}) > 1:
        raise InputError(
            f"{path} has several IDX files of {split} {content}: "
            f"{', '.join(file.name for file in found)}; a folder holds one data set"
        )
    return found[0] if found else None
