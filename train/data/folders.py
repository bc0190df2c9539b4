"""Folders of images: one folder per class, or a table of labels, in one or several splits."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np

from flaxmobile.errors import InputError, shorten
from flaxmobile.images import UnreadableImageError
from train.data.augment import augment_photograph
from train.data.balance import describe_inequality
from train.data.files import NO_LABEL, LeftOut, image_files
from train.data.holdout import ensure_validation
from train.data.labels import read_labels
from train.data.layouts import class_folders, find_splits
from train.data.records import Dataset, Record, Selection
from train.data.same_images import merge_same_images


@dataclasses.dataclass(frozen=True)
class FolderSource:
    """The images of a split, in the order of torchvision's `ImageFolder`.

    Attributes:
      root: the split's folder.
      files: (path below root, label) of each image; or its labels, where it may have several.
      classes: number of classes, where an image may have several labels; otherwise None.
    """

    root: str
    files: tuple[tuple[str, int | tuple[int, ...]], ...]
    classes: int | None = None

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Record:
        file, label = self.files[index]
        path = Path(self.root, file)
        try:
            return Record(path.read_bytes(), self._flags(label), str(path))
        except OSError as error:
            raise UnreadableImageError(f"{path} cannot be read: {error.strerror}") from None

    def listing(self) -> Iterable[str]:
        """Name each file with its label."""
        return (f"{file} {label}" for file, label in self.files)

    def labels(self) -> np.ndarray:
        """Return the label of each image."""
        return np.array([self._flags(label) for _, label in self.files])

    def _flags(self, label: int | tuple[int, ...]) -> int | tuple[int, ...]:
        if self.classes is None or isinstance(label, int):
            return label
        return tuple(int(index in label) for index in range(self.classes))

    def part(self, chosen: np.ndarray) -> "FolderSource":
        """Return a source of some of the images."""
        files = (file for file, use in zip(self.files, chosen, strict=True) if use)
        return dataclasses.replace(self, files=tuple(files))


def open_folder(name: str, path: Path, selection: Selection) -> Dataset:
    """Open a folder of images, see `train.data.open_dataset`."""
    if not path.is_dir():
        raise InputError(
            f"{path} is not a folder: folder:PATH needs one folder per class, in PATH itself or "
            "in train/ and val/"
        )
    left_out = LeftOut()
    places = find_splits(path, selection, left_out)
    folders = {split: class_folders(place, left_out) for split, place in places.items()}
    table = _Table.read(path, places, folders, selection, left_out)
    classes = table.classes() if "train" in table.splits else folders["train"]
    _check_case(path, classes)
    sources: dict[str, FolderSource] = {}
    for split, place in places.items():
        if split in table.splits:
            source = table.source(place, classes, left_out)
        elif folders[split]:
            _check_same_classes(path, (places["train"].name, classes), (place.name, folders[split]))
            source = _class_source(place, classes, left_out, selection.multi_label)
        else:
            source = None
        if source is not None:
            sources[split] = source
        elif split != "test":
            raise InputError(
                f"{place} has no class folders: images go into one folder per class, or "
                "--labels FILE.csv gives their classes"
            )
    train, validation, notes = ensure_validation(
        sources["train"], sources.get("validation"), selection, str(path)
    )
    unlabelled = [place.name for split, place in places.items() if split not in sources]
    flags = train.labels()
    if selection.multi_label and not selection.labels and (flags.sum(axis=1) < 2).all():
        notes = (*notes, "no image lies in several class folders: each has one label")
    said = (
        *(f"{name}/ has no labels and is not evaluated" for name in unlabelled),
        *notes,
        left_out.describe(),
        None if selection.multi_label else describe_inequality(flags, classes),
    )
    return Dataset(
        name=name,
        class_names=classes,
        train=train,
        validation=validation,
        test=sources.get("test"),
        augment=augment_photograph,
        notes=tuple(filter(None, said)),
        multi_label=selection.multi_label,
    )


def _class_source(
    place: Path, classes: Sequence[str], left_out: LeftOut, several: bool
) -> FolderSource:
    """List the images of class folders; where there may be several labels, each image once."""
    files: list[tuple[str, int]] = []
    below = len(str(place)) + 1
    for label, name in enumerate(classes):
        found = image_files(place / name, left_out)
        if not found:
            raise InputError(f"{place / name} has no images")
        files += [(file[below:], label) for file in found]
    if several:
        return FolderSource(str(place), tuple(merge_same_images(place, files)), len(classes))
    return FolderSource(str(place), tuple(files))


@dataclasses.dataclass(frozen=True)
class _Table:
    """Labels of the splits whose folders say nothing of the classes.

    Attributes:
      name: of the files that hold the labels.
      splits: those splits; none without such files.
      files: folder of a split -> its images.
      labels: image -> its classes.
      several: whether an image may have several.
    """

    name: str
    splits: tuple[str, ...]
    files: Mapping[Path, Sequence[str]]
    labels: Mapping[str, tuple[str, ...]]
    several: bool

    @classmethod
    def read(
        cls,
        path: Path,
        places: Mapping[str, Path],
        folders: Mapping[str, Sequence[str]],
        selection: Selection,
        left_out: LeftOut,
    ) -> Self:
        """Read the labels of the splits without class folders, or of all if each has some."""
        splits: Sequence[str] = ()
        if selection.labels:
            splits = [split for split in places if not folders[split]] or list(places)
        files = {places[split]: image_files(places[split], left_out) for split in splits}
        names = {
            Path(file).relative_to(path).as_posix(): file
            for found in files.values()
            for file in found
        }
        several = selection.multi_label
        labels = read_labels(selection.labels, names, selection.label_columns, several)
        known = {names[name]: label for name, label in labels.items()}
        return cls(", ".join(selection.labels), tuple(splits), files, known, several)

    def classes(self) -> tuple[str, ...]:
        """Sort the classes by name, numbers by their value."""
        names = {name for labels in self.labels.values() for name in labels}
        numbers = all(name.isdecimal() for name in names)
        return tuple(sorted(names, key=int) if numbers else sorted(names))

    def source(self, place: Path, classes: Sequence[str], left_out: LeftOut) -> FolderSource | None:
        """Return the labelled images of a split; None if there are none."""
        number = {name: label for label, name in enumerate(classes)}
        found = [file for file in self.files[place] if file in self.labels]
        strange = {name for file in found for name in self.labels[file]} - set(number)
        if strange:
            raise InputError(
                f"{self.name}: classes that are not in train/: {shorten(sorted(strange), 4)}"
            )
        if not found:
            return None
        for file in self.files[place]:
            if file not in self.labels:
                left_out.add(NO_LABEL, file)
        below = len(str(place)) + 1
        labels = {file: tuple(number[name] for name in self.labels[file]) for file in found}
        if self.several:
            files = tuple((file[below:], label) for file, label in labels.items())
            return FolderSource(str(place), files, len(classes))
        return FolderSource(str(place), tuple((f[below:], label) for f, (label,) in labels.items()))


def _check_same_classes(
    path: Path, train: tuple[str, Sequence[str]], other: tuple[str, Sequence[str]]
) -> None:
    """Compare the (folder, classes) of two splits."""
    (first, classes), (second, found) = train, other
    alone = [f"{name!r} only in {first}/" for name in classes if name not in found]
    alone += [f"{name!r} only in {second}/" for name in found if name not in classes]
    if alone:
        raise InputError(
            f"{path} has different classes in {first}/ and {second}/: {', '.join(alone)}"
        )


def _check_case(path: Path, classes: Sequence[str]) -> None:
    lower: dict[str, str] = {}
    for name in classes:
        if other := lower.get(name.casefold()):
            raise InputError(f"{path} has classes that differ by case only: {other!r}, {name!r}")
        lower[name.casefold()] = name
