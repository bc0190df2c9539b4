"""YOLO's text files: a line `class x y width height` for each object, in shares of the image.

Layouts: `images/train/` with `labels/train/`, `train/images/` with `train/labels/` (Roboflow), or
`images/` with `labels/`. `data.yaml` names the classes, and may name the folders; `classes.txt`
has a class in each line.
"""

from pathlib import Path
from typing import Any

import yaml

from flaxmobile.errors import InputError
from train.data.files import LeftOut, image_files
from train.data.layouts import find_splits, match_splits
from train.data.objects.annotations import Files, annotate, read_size, read_text
from train.data.records import BACKGROUND, Selection

_KEYS = {"train": "train", "validation": "val", "test": "test"}
"""Split -> its key in data.yaml."""


def find_names(path: Path) -> Path | None:
    """Find the file that names the classes."""
    for name in ("data.yaml", "data.yml", "classes.txt"):
        for folder in (path, path / "labels"):
            if (folder / name).is_file():
                return folder / name
    return None


def read_yolo(
    path: Path, selection: Selection, left_out: LeftOut
) -> tuple[tuple[str, ...], dict[str, Files]]:
    """Read names of the classes, and the files of each split with their objects.

    An image without a file of labels has no objects.

    Raises:
      InputError: missing names, images or labels, or wrong lines.
    """
    names_file = find_names(path)
    if names_file is None:
        raise InputError(f"{path} has images and labels, but no data.yaml or classes.txt: no names")
    settings: dict[str, Any] = {}
    if names_file.suffix == ".txt":
        names = [line.strip() for line in read_text(names_file).splitlines() if line.strip()]
    else:
        settings = _load(names_file)
        names = _names(settings, names_file)
    folders = _folders(path, names_file, settings, selection, left_out)
    splits = {split: _read_split(folder, names, left_out) for split, folder in folders.items()}
    return (BACKGROUND, *names), splits


def _load(file: Path) -> dict[str, Any]:
    try:
        settings = yaml.safe_load(read_text(file))
    except yaml.YAMLError as error:
        raise InputError(f"{file} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(settings, dict):
        raise InputError(f"{file} has no settings; accepted: names, train, val, test, path")
    return settings


def _names(settings: dict[str, Any], file: Path) -> list[str]:
    """Read the names of the classes, a list or numbered from 0."""
    names = settings.get("names")
    if isinstance(names, dict) and sorted(names) == [*range(len(names))]:
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        raise InputError(f"{file}: names is {names}; accepted: a list, or names numbered from 0")
    return [str(name) for name in names]


def _folders(
    path: Path,
    file: Path,
    settings: dict[str, Any],
    selection: Selection,
    left_out: LeftOut,
) -> dict[str, Path]:
    """Find the folder of images of each split."""
    root = file.parent / str(settings.get("path") or "")
    given = {split: settings[key] for split, key in _KEYS.items() if settings.get(key)}
    if given and not selection.splits:
        return {split: _folder(root, path, file, place) for split, place in given.items()}
    if (path / "images").is_dir():
        return find_splits(path / "images", selection, left_out)
    inner = [folder.parent.name for folder in sorted(path.glob("*/images"))]
    chosen = match_splits(path, inner, selection)
    return {split: path / name / "images" for split, name in chosen.items()}


def _folder(root: Path, path: Path, file: Path, place: object) -> Path:
    """Find a folder that data.yaml names; Roboflow's begin with a ../ too many."""
    places = (root / str(place), path / str(place), path / str(place).removeprefix("../"))
    for folder in places:
        if folder.is_dir():
            return folder
    raise InputError(f"{file} names {place}, which is no folder; accepted: folders of images")


def _read_split(folder: Path, names: list[str], left_out: LeftOut) -> Files:
    images = image_files(folder, left_out)
    if not images:
        raise InputError(f"{folder} has no images")
    labels = [_label_file(Path(image)) for image in images]
    if not any(label.is_file() for label in labels):
        raise InputError(f"{folder} has images, but {labels[0].parent} has no labels")
    files = []
    for image, label in zip(images, labels, strict=True):
        width, height = size = read_size(Path(image))
        objects = []
        if label.is_file():
            for number, line in enumerate(read_text(label).splitlines(), start=1):
                if line.strip():
                    index, (x, y, w, h) = _parse(line, f"{label} line {number}", len(names))
                    low = (x - w / 2) * width, (y - h / 2) * height
                    high = (x + w / 2) * width, (y + h / 2) * height
                    objects.append(((*low, *high), 1 + index, False))
        files.append((image, annotate(size, objects, str(label), left_out)))
    return tuple(files)


def _parse(line: str, place: str, classes: int) -> tuple[int, list[float]]:
    """Read the class and the box of a line."""
    try:
        index, *numbers = map(float, line.split())
    except ValueError:
        index, numbers = 0.0, []
    if len(numbers) != 4 or index != int(index):
        raise InputError(f"{place} is {line[:80]!r}; accepted: class x y width height")
    if not 0 <= index < classes:
        raise InputError(f"{place}: class {int(index)}; accepted: 0 to {classes - 1}")
    if max(numbers) > 2:  # a little over 1 is the rounding of an edge; pixels are larger
        raise InputError(f"{place} is {line[:80]!r}; accepted: shares of the image, up to 1")
    return int(index), numbers


def _label_file(image: Path) -> Path:
    """Return labels/…/NAME.txt for images/…/NAME.jpg, or the file beside it."""
    parts = list(image.parts)
    for place in reversed(range(len(parts) - 1)):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return Path(*parts).with_suffix(".txt")
