"""What a run learns from: digits, a folder of images, or any TFDS dataset."""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from flaxmobile.errors import InputError

_SUFFIXES = (".jpg", ".jpeg", ".png")


class UnreadableImageError(InputError):
    """A file that is no image, a truncated one, or one that cannot be opened; names it."""


class Record(NamedTuple):
    """One labelled image.

    Attributes:
      encoded: the bytes of the JPEG or PNG file.
      label: index of its class.
      name: its path, or dataset/split/index, for messages.
    """

    encoded: bytes
    label: int
    name: str


class Source(Protocol):
    """Records by index. It can be pickled, for worker processes read through a copy of it.

    Indexing raises UnreadableImageError for a file that cannot be opened, and InputError for a
    label outside the classes.
    """

    def __len__(self) -> int:
        """Number of records."""

    def __getitem__(self, index: int) -> Record:
        """Read one record; may be called from several threads."""


@dataclasses.dataclass(frozen=True)
class Dataset:
    """The splits of a dataset and how its images want to be treated.

    Attributes:
      name: as given to `open_dataset`.
      class_names: one per class, by label.
      train, validation: never empty.
      test: None where there is no labelled one.
      image_size: side in pixels that the dataset prefers; None: the network's.
      augmentation: which of `train.augment` suits it.
    """

    name: str
    class_names: tuple[str, ...]
    train: Source
    validation: Source
    test: Source | None
    image_size: int | None
    augmentation: Literal["digits", "photograph"]


def open_dataset(name: str, data_dir: str | None = None) -> Dataset:
    """Open a dataset by name, and prepare it first where TFDS has not done so yet.

    Args:
      name: "digits" (embedded), "folder:PATH" (class folders under PATH/train and PATH/val, and
        under PATH/test if there is one), or the name of a TFDS dataset.
      data_dir: where TFDS keeps its data; by default its own directory.

    Raises:
      InputError: an unknown name, or data that is missing, incomplete or not for classification.
    """
    if name.startswith("folder:"):
        return _open_folder(name, Path(name.removeprefix("folder:")).expanduser())
    if name.startswith((".", "/", "~")):
        raise InputError(f"--dataset is {name}; of a folder it is folder:{name}")
    from train import tfds_datasets  # TFDS takes half a second to import

    if name == "digits":
        return tfds_datasets.open_digits(data_dir)
    return tfds_datasets.open_tfds(name, data_dir)


@dataclasses.dataclass(frozen=True)
class FolderSource:
    """The images of a split's class folders, in the order of torchvision's `ImageFolder`.

    Attributes:
      root: of the split.
      files: path below root, and label.
    """

    root: str
    files: tuple[tuple[str, int], ...]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.files)

    def __getitem__(self, index: int) -> Record:
        """Read one file."""
        file, label = self.files[index]
        path = Path(self.root, file)
        try:
            return Record(path.read_bytes(), label, str(path))
        except OSError as error:
            raise UnreadableImageError(f"{path} cannot be read: {error.strerror}") from None


def _open_folder(name: str, path: Path) -> Dataset:
    if not path.is_dir():
        raise InputError(
            f"{path} is not a folder: folder:PATH takes one with train/ and val/ in it"
        )
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
        image_size=None,
        augmentation="photograph",
    )


def _class_folders(split: Path) -> tuple[str, ...]:
    """Sorted by name, as torchvision numbers them; hidden ones are no classes."""
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
