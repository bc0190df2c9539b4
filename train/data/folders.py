"""Folders of images: one folder per class under train/, val/ and optionally test/."""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

from flaxmobile.errors import InputError
from train.data.augment import augment_photograph
from train.data.records import Dataset, Record, UnreadableImageError

_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclasses.dataclass(frozen=True)
class FolderSource:
    """The images of a split, in the order of torchvision's `ImageFolder`.

    Attributes:
      root: the split's folder.
      files: (path below root, label) of each image.
    """

    root: str
    files: tuple[tuple[str, int], ...]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Record:
        file, label = self.files[index]
        path = Path(self.root, file)
        try:
            return Record(path.read_bytes(), label, str(path))
        except OSError as error:
            raise UnreadableImageError(f"{path} cannot be read: {error.strerror}") from None


def open_folder(name: str, path: Path) -> Dataset:
    """Open the class folders below path, see `train.data.open_dataset`."""
    if not path.is_dir():
        raise InputError(f"{path} is not a folder: folder:PATH needs a folder with train/ and val/")
    for split in ("train", "val"):
        if not (path / split).is_dir():
            raise InputError(f"{path} has no {split}/: class folders go under train/ and val/")
    splits = [split for split in ("train", "val", "test") if (path / split).is_dir()]
    classes = _class_folders(path / "train")
    for split in splits[1:]:
        _check_same_classes(path, classes, split)
    train, validation, *test = [_folder_source(path / split, classes) for split in splits]
    return Dataset(
        name=name,
        class_names=classes,
        train=train,
        validation=validation,
        test=test[0] if test else None,
        augment=augment_photograph,
    )


def _class_folders(split: Path) -> tuple[str, ...]:
    """Class folders sorted by name, as torchvision numbers them; hidden folders are ignored."""
    entries = [entry for entry in split.iterdir() if not entry.name.startswith(".")]
    classes = tuple(sorted(entry.name for entry in entries if entry.is_dir()))
    if not classes:
        raise InputError(f"{split} has no class folders: images go into one folder per class")
    return classes


def _check_same_classes(path: Path, classes: tuple[str, ...], split: str) -> None:
    found = _class_folders(path / split)
    alone = [f"{name!r} only in train/" for name in classes if name not in found]
    alone += [f"{name!r} only in {split}/" for name in found if name not in classes]
    if alone:
        raise InputError(f"{path} has different classes in train/ and {split}/: {', '.join(alone)}")


def _folder_source(split: Path, classes: tuple[str, ...]) -> FolderSource:
    files: list[tuple[str, int]] = []
    below = len(str(split)) + 1
    for label, name in enumerate(classes):
        found = [(file[below:], label) for file in _image_files(split / name)]
        if not found:
            raise InputError(f"{split / name} has no images ({', '.join(_SUFFIXES)})")
        files += found
    return FolderSource(str(split), tuple(files))


def _image_files(folder: Path) -> Iterator[str]:
    for directory, _, names in sorted(os.walk(folder, followlinks=True)):
        for name in sorted(names):
            if name.lower().endswith(_SUFFIXES) and not name.startswith("."):
                yield os.path.join(directory, name)  # noqa: PTH118 - millions of files
