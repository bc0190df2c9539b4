"""Folders of images: one folder per class, or a table of labels, in one or several splits."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from flaxmobile.errors import InputError, shorten
from train.data.augment import augment_photograph
from train.data.balance import describe_inequality
from train.data.files import LeftOut, image_files, visible_entries
from train.data.holdout import ensure_validation
from train.data.labels import read_labels
from train.data.records import Dataset, Record, Selection, UnreadableImageError

_SPELLINGS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""Split -> names of its folder, in lower case."""

_BESIDE = "files and folders beside the classes or splits"
_NO_LABEL = "images without a label"


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

    def listing(self) -> Iterable[str]:
        """Name each file with its label."""
        return (f"{file} {label}" for file, label in self.files)

    def labels(self) -> np.ndarray:
        """Return the label of each image."""
        return np.array([label for _, label in self.files])

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
    reader = _Reader(path, selection)
    splits = reader.read_splits()
    train, validation, notes = ensure_validation(
        splits["train"], splits.get("validation"), selection, str(path)
    )
    said = (reader.left_out.describe(), describe_inequality(train.labels(), reader.classes))
    return Dataset(
        name=name,
        class_names=reader.classes,
        train=train,
        validation=validation,
        test=splits.get("test"),
        augment=augment_photograph,
        notes=(*reader.notes, *notes, *filter(None, said)),
    )


class _Reader:
    """The splits of a folder, their classes, and what there is to say about them."""

    def __init__(self, path: Path, selection: Selection) -> None:
        """Find the folders of the splits; nothing is listed yet."""
        self.path, self.selection = path, selection
        self.classes: tuple[str, ...] = ()
        self.notes: list[str] = []
        self.left_out = LeftOut()
        self.places = self._find_splits()

    def read_splits(self) -> dict[str, FolderSource]:
        """Return the labelled splits, "train" among them, and set `classes`."""
        folders = {split: self._folders(place) for split, place in self.places.items()}
        # Without class folders, or if every split has some, the folders say nothing of the class.
        tabled = [split for split, names in folders.items() if not names] or list(folders)
        labels = self._read_labels(tabled) if self.selection.labels else {}
        if not self.selection.labels:
            tabled = []
        if "train" in tabled:
            self.classes = _sorted_classes(set(labels.values()))
        else:
            self.classes = folders["train"]
        _check_case(self.path, self.classes)
        sources = {}
        for split, place in self.places.items():
            if split in tabled:
                source = self._tabled_source(place, labels)
            elif folders[split]:
                self._check_same_classes(split, folders[split])
                source = self._class_source(place)
            else:
                source = None
            if source is not None:
                sources[split] = source
            elif split == "test":
                self.notes.append(f"{place.name}/ has no labels and is not evaluated")
            else:
                raise InputError(
                    f"{place} has no class folders: images go into one folder per class, or "
                    "--labels FILE.csv gives their classes"
                )
        return sources

    def _find_splits(self) -> dict[str, Path]:
        names = [e.name for e in visible_entries(self.path, LeftOut()) if e.is_dir()]
        places = {}
        for split, spellings in _SPELLINGS.items():
            found = [name for name in names if name.lower() in spellings]
            if given := self.selection.splits.get(split):
                found = [given]
            if len(found) > 1:
                raise InputError(
                    f"{self.path} has {' and '.join(f'{name}/' for name in found)}: remove one, or "
                    f"name the one to use, --splits {split}={found[0]}"
                )
            if found:
                places[split] = self.path / found[0]
                if not places[split].is_dir():
                    raise InputError(f"--splits: {self.path} has no folder {found[0]}")
        used = [place.name for place in places.values()]
        beside = [name for name in names if name not in used]
        if not places or (self._is_class(places) and beside):
            return {"train": self.path}
        if "train" not in places:
            raise InputError(f"{self.path} has {used[0]}/ but no train/ beside it")
        for name in beside:
            self.left_out.add(_BESIDE, f"{name}/")
        return places

    def _is_class(self, places: Mapping[str, Path]) -> bool:
        """Tell whether train/ is a class, of trains, and not a split."""
        if list(places) != ["train"] or self.selection.labels or self.selection.splits:
            return False
        return not any(e.is_dir() for e in visible_entries(places["train"], LeftOut()))

    def _folders(self, place: Path) -> tuple[str, ...]:
        """Return the class folders of a split, as torchvision numbers them."""
        entries = list(visible_entries(place, self.left_out))
        folders = tuple(entry.name for entry in entries if entry.is_dir())
        for entry in entries if folders else ():
            if not entry.is_dir():
                self.left_out.add(_BESIDE, entry.name)
        return folders

    def _class_source(self, place: Path) -> FolderSource:
        files: list[tuple[str, int]] = []
        below = len(str(place)) + 1
        for label, name in enumerate(self.classes):
            found = image_files(place / name, self.left_out)
            if not found:
                raise InputError(f"{place / name} has no images")
            files += [(file[below:], label) for file in found]
        return FolderSource(str(place), tuple(files))

    def _read_labels(self, splits: Iterable[str]) -> dict[str, str]:
        """Read the tables: path below the folder -> class."""
        self._files = {
            place: [
                Path(file).relative_to(self.path).as_posix()
                for file in image_files(place, self.left_out)
            ]
            for place in (self.places[split] for split in splits)
        }
        files = [file for found in self._files.values() for file in found]
        return read_labels(self.selection.labels, files, self.selection.label_columns)

    def _tabled_source(self, place: Path, labels: Mapping[str, str]) -> FolderSource | None:
        number = {name: label for label, name in enumerate(self.classes)}
        found = [(file, labels[file]) for file in self._files[place] if file in labels]
        # Kaggle's ImageNet has boxes after the class: "n01978287 240 170 260 240".
        found = [(f, name if name in number else name.partition(" ")[0]) for f, name in found]
        strange = sorted({name for _, name in found if name not in number})
        if strange:
            raise InputError(
                f"{', '.join(self.selection.labels)}: classes that are not in train/: "
                f"{shorten(strange, 4)}"
            )
        if not found:
            return None
        for file in self._files[place]:
            if file not in labels:
                self.left_out.add(_NO_LABEL, file)
        below = len(place.relative_to(self.path).as_posix()) + 1 if place != self.path else 0
        return FolderSource(str(place), tuple((f[below:], number[name]) for f, name in found))

    def _check_same_classes(self, split: str, found: Sequence[str]) -> None:
        train, other = (f"{self.places[s].name}/" for s in ("train", split))
        alone = [f"{name!r} only in {train}" for name in self.classes if name not in found]
        alone += [f"{name!r} only in {other}" for name in found if name not in self.classes]
        if alone:
            raise InputError(
                f"{self.path} has different classes in {train} and {other}: {', '.join(alone)}"
            )


def _sorted_classes(names: Iterable[str]) -> tuple[str, ...]:
    """Sort by name, numbers by their value."""
    names = list(names)
    numbers = all(name.isdecimal() for name in names)
    return tuple(sorted(names, key=int) if numbers else sorted(names))


def _check_case(path: Path, classes: Sequence[str]) -> None:
    lower: dict[str, str] = {}
    for name in classes:
        if other := lower.get(name.casefold()):
            raise InputError(f"{path} has classes that differ by case only: {other!r}, {name!r}")
        lower[name.casefold()] = name
