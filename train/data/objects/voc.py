"""Pascal VOC's XML: `Annotations/`, `JPEGImages/`, and lists of names in `ImageSets/Main/`."""

from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

from flaxmobile.errors import InputError, shorten
from train.data.files import LeftOut
from train.data.layouts import match_splits
from train.data.objects.annotations import Annotations, Files, annotate, read_size, read_text
from train.data.records import BACKGROUND, Selection


def read_voc(
    path: Path, selection: Selection, left_out: LeftOut
) -> tuple[tuple[str, ...], dict[str, Files]]:
    """Read names of the classes, and the files of each split with their objects.

    Classes are those of the training split, by name. Without `ImageSets/Main/train.txt` all
    annotations are for training. VOC's boxes count pixels from 1 and include their last row and
    column: (1, 1, w, h) is the whole image.

    Raises:
      InputError: damaged XML, missing files, or wrong boxes.
    """
    trees = {split: _parse(path, names) for split, names in _lists(path, selection).items()}
    found = {split: _classes(parsed) for split, parsed in trees.items()}
    classes = sorted(found["train"])
    if not classes:
        raise InputError(f"{path / 'Annotations'} has no objects to train for")
    for split, names in found.items():
        if strange := sorted(names - {*classes}):
            raise InputError(
                f"{path}: classes of {split} that are not in train: {shorten(strange, 4)}"
            )
    labels = {name: label for label, name in enumerate(classes, start=1)}
    splits = {
        split: tuple(_read(path, name, tree, labels, left_out) for name, tree in parsed.items())
        for split, parsed in trees.items()
    }
    return (BACKGROUND, *classes), splits


def _lists(path: Path, selection: Selection) -> dict[str, list[str]]:
    """Return the names of each split."""
    files = {file.stem: file for file in sorted((path / "ImageSets" / "Main").glob("*.txt"))}
    if not files:
        return {"train": [file.stem for file in sorted((path / "Annotations").glob("*.xml"))]}
    chosen = match_splits(path / "ImageSets" / "Main", files, selection)
    # Lines of a class's own list also say whether the image has it.
    return {
        split: [line.split()[0] for line in read_text(files[name]).splitlines() if line.strip()]
        for split, name in chosen.items()
    }


def _parse(path: Path, names: Iterable[str]) -> dict[str, ElementTree.Element]:
    trees = {}
    for name in names:
        file = path / "Annotations" / f"{name}.xml"
        try:
            trees[name] = ElementTree.fromstring(read_text(file))
        except ElementTree.ParseError as error:
            raise InputError(f"{file} is not XML: {error}") from None
    return trees


def _classes(trees: dict[str, ElementTree.Element]) -> set[str]:
    return {
        name for tree in trees.values() for each in tree.iter("object") if (name := _name(each))
    }


def _name(each: ElementTree.Element) -> str:
    return (each.findtext("name") or "").strip()


def _read(
    path: Path,
    name: str,
    tree: ElementTree.Element,
    labels: dict[str, int],
    left_out: LeftOut,
) -> tuple[str, Annotations]:
    file = path / "Annotations" / f"{name}.xml"
    image = path / "JPEGImages" / f"{name}.jpg"
    if not image.is_file():
        image = image.with_name((tree.findtext("filename") or image.name).strip())
    if not image.is_file():
        raise InputError(f"{file} describes {image.name}, which is not in {image.parent}")
    objects = []
    for each in tree.iter("object"):
        corners = [each.findtext(f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
        try:
            left, top, right, bottom = (float(number or "") for number in corners)
        except ValueError:
            raise InputError(f"{file}: an object has the box {corners}, not 4 numbers") from None
        if _name(each) not in labels:
            raise InputError(f"{file}: an object has no name")
        difficult = (each.findtext("difficult") or "0").strip() == "1"
        objects.append(((left - 1, top - 1, right, bottom), labels[_name(each)], difficult))
    sides = [tree.findtext(f"size/{side}") or "0" for side in ("width", "height")]
    width, height = (int(side) if side.strip().isdecimal() else 0 for side in sides)
    size = (width, height) if width and height else read_size(image)
    return str(image), annotate(size, objects, str(file), left_out)
