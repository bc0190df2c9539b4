"""Folders of images with masks: which layout they have, and their splits."""

import dataclasses
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from flaxmobile.errors import InputError, check_value, first_line
from flaxmobile.images import UnreadableImageError
from flaxmobile.preprocessing import Preprocessing
from train.data.files import LeftOut
from train.data.holdout import ensure_validation
from train.data.masks.label_map import read_label_map
from train.data.masks.layouts import Layout, Pair, find_layout
from train.data.masks.mask import EncodedMask, Size, number_classes
from train.data.records import Dataset, Record, Selection

PRESET = Preprocessing(480, 520)
"""Crop and shorter side of torchvision's references/segmentation."""

_NAMES = ("classes.txt", "class_names.txt", "labels.txt", "codes.txt")
"""Files with the name of a class on each line, in the order of the masks' values."""

_INDICES = "class_indices.json"
"""The file that a training run writes."""


@dataclasses.dataclass(frozen=True)
class FolderMasks:
    """Images of a split with their masks.

    Attributes:
      root: folder of the data set.
      pairs: path below it of each image and of its mask.
      table: class of each value of the masks, see `EncodedMask`.
    """

    root: str
    pairs: tuple[Pair, ...]
    table: bytes | None = None

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Record:
        image, mask = (Path(self.root, name) for name in self.pairs[index])
        label = EncodedMask(_read(mask), str(mask), self.table)
        return Record(_read(image), label, str(image))

    def labels(self) -> np.ndarray:
        """Return the same class for all: an image has several."""
        return np.zeros(len(self), np.int64)

    def listing(self) -> Iterable[str]:
        """Name each image and mask."""
        return (" ".join(pair) for pair in self.pairs)

    def sizes(self) -> Iterator[Size]:
        """Read the size of each mask that can be read."""
        for _, mask in self.pairs:
            try:
                with Image.open(Path(self.root, mask)) as file:
                    yield file.size
            except OSError:  # reading the pair says what is wrong
                continue

    def part(self, chosen: np.ndarray) -> "FolderMasks":
        """Return a source of some of the images."""
        pairs = (pair for pair, use in zip(self.pairs, chosen, strict=True) if use)
        return dataclasses.replace(self, pairs=tuple(pairs))


def open_folder(name: str, path: Path, selection: Selection) -> Dataset:
    """Open a folder of images with masks, see `train.data.masks.opening.open_masks`."""
    check_value("--dataset", name, path.is_dir(), "folder:PATH of a folder that is there")
    left_out = LeftOut()
    layout = find_layout(path, selection, left_out)
    for split, pairs in layout.splits.items():
        if not pairs:
            raise InputError(f"{path} has no images with masks for {split}")
    given = read_label_map(selection.label_map) if selection.label_map else None
    table = given.table if given else layout.table
    sources = {
        split: FolderMasks(str(path), pairs, table) for split, pairs in layout.splits.items()
    }
    train, validation, notes = ensure_validation(
        sources["train"], sources.get("validation"), selection, str(path)
    )
    names, said = (given.class_names, None) if given else _class_names(path, layout, train)
    if len(names) < 2:
        raise InputError(
            f"{path} has one class, {names[0]!r}: there is nothing to tell apart; if its masks "
            "count otherwise, --label-map says how: 0=background 255=object"
        )
    return Dataset(
        name=name,
        class_names=names,
        train=train,
        validation=validation,
        test=sources.get("test"),
        preset=PRESET,
        notes=tuple(filter(None, (said, *notes, left_out.describe()))),
    )


def _class_names(
    path: Path, layout: Layout, source: FolderMasks
) -> tuple[tuple[str, ...], str | None]:
    """Read the names from their file, or take the layout's; else number the classes of masks."""
    for file in (path / name for name in _NAMES):
        if file.is_file():
            lines = file.read_text("utf-8-sig").splitlines()
            if names := tuple(line.strip() for line in lines if line.strip()):
                return names, None
    if (path / _INDICES).is_file():
        try:
            return tuple(map(str, json.loads((path / _INDICES).read_text()).values())), None
        except (ValueError, AttributeError) as error:
            raise InputError(f"{path / _INDICES} is damaged: {first_line(error)}") from None
    if layout.class_names:
        return layout.class_names, None
    names = number_classes(source)
    return names, (
        f"{len(names)} classes, by the largest value in the training masks; {_NAMES[0]} in {path} "
        "can name them, one a line"
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnreadableImageError(f"{path} cannot be read: {error.strerror}") from None
