"""COCO's JSON: images, categories, and annotations with boxes (x, y, width, height).

Layouts: `annotations/instances_train2017.json` with the images in `train2017/`, `images/train2017/`
or the like, and `train/_annotations.coco.json` with the images beside it (Roboflow).
"""

import json
import string
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flaxmobile.errors import InputError, shorten
from train.data.files import LeftOut
from train.data.layouts import match_splits
from train.data.objects.annotations import Files, Object, annotate, read_size, read_text
from train.data.records import BACKGROUND, Selection

_PREFIX = "instances_"
_BESIDE = "_annotations.coco.json"
_GAP = "N/A"
"""Name of a number without a category, torchvision's."""


def find_coco(path: Path) -> dict[str, Path]:
    """Find the JSON files of a folder: name of a split, such as train2017 -> file."""
    files = sorted((path / "annotations").glob("*.json"))
    found = {file.stem.removeprefix(_PREFIX): file for file in files}
    return found or {file.parent.name: file for file in sorted(path.glob(f"*/{_BESIDE}"))}


def read_coco(
    path: Path, selection: Selection, left_out: LeftOut
) -> tuple[tuple[str, ...], dict[str, Files]]:
    """Read names of the classes, and the files of each split with their objects.

    A category's id is its label, as in torchvision; numbers without a category are named N/A. Ids
    that begin at 0 or leave out more than half of the numbers are numbered anew, in order.

    Raises:
      InputError: damaged or incomplete JSON, missing images, or wrong boxes.
    """
    files = find_coco(path)
    chosen = match_splits(path, files, selection, lambda name: name.rstrip(string.digits))
    contents = {split: _load(files[name]) for split, name in chosen.items()}
    names = {split: _categories(contents[split], files[name]) for split, name in chosen.items()}
    for split, name in chosen.items():
        if names[split] != names["train"]:
            raise InputError(f"{files[name]} has other categories than {files[chosen['train']]}")
    labels = _number(names["train"])
    classes = [BACKGROUND] + [_GAP] * max(labels.values())
    for identity, label in labels.items():
        classes[label] = names["train"][identity]
    splits = {
        split: _read_split(path, name, files[name], contents[split], labels, left_out)
        for split, name in chosen.items()
    }
    return tuple(classes), splits


def _load(file: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(read_text(file))
    except ValueError as error:
        raise InputError(f"{file} is not JSON: {error}") from None
    for key in ("images", "categories", "annotations"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise InputError(f"{file} has no list {key!r}: it is not of COCO's detection format")
    return content


def _categories(content: dict[str, Any], file: Path) -> dict[int, str]:
    try:
        names = {int(entry["id"]): str(entry["name"]) for entry in content["categories"]}
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{file}: a category lacks its id or its name") from None
    if not names:
        raise InputError(f"{file} has no categories")
    return dict(sorted(names.items()))


def _number(names: Mapping[int, str]) -> dict[int, int]:
    """Choose the label of each category's id."""
    if min(names) >= 1 and max(names) <= 2 * len(names):
        return {identity: identity for identity in names}
    return {identity: label for label, identity in enumerate(names, start=1)}


def _read_split(
    path: Path,
    name: str,
    file: Path,
    content: dict[str, Any],
    labels: Mapping[int, int],
    left_out: LeftOut,
) -> Files:
    try:
        images = {entry["id"]: str(entry["file_name"]) for entry in content["images"]}
    except (KeyError, TypeError):
        raise InputError(f"{file}: an image lacks its id or its file_name") from None
    if not images:
        raise InputError(f"{file} has no images")
    folder = _image_folder(path, name, file, images)
    objects = _objects(content, file, images, labels)
    files = []
    for entry in content["images"]:
        image = folder / entry["file_name"]
        sides = entry.get("width"), entry.get("height")
        size = (int(sides[0]), int(sides[1])) if all(sides) else read_size(image)
        files.append((str(image), annotate(size, objects[entry["id"]], str(image), left_out)))
    return tuple(files)


def _objects(
    content: dict[str, Any], file: Path, images: Mapping[Any, str], labels: Mapping[int, int]
) -> dict[Any, list[Object]]:
    """Collect the objects by their image's id."""
    objects: dict[Any, list[Object]] = defaultdict(list)
    for entry in content["annotations"]:
        try:
            x, y, width, height = map(float, entry["bbox"])
            image, category = entry["image_id"], entry["category_id"]
            crowd = bool(entry.get("iscrowd"))
        except (AttributeError, KeyError, TypeError, ValueError):
            raise InputError(
                f"{file}: annotation {shorten([str(entry)])} lacks image_id, category_id or a bbox "
                "of 4 numbers"
            ) from None
        for kind, identity, known in (("image", image, images), ("category", category, labels)):
            if identity not in known:
                raise InputError(
                    f"{file}: annotation {entry.get('id')} is of {kind} {identity}, which is not "
                    "in the file"
                )
        objects[image].append(((x, y, x + width, y + height), labels[category], crowd))
    return objects


def _image_folder(path: Path, name: str, file: Path, images: Mapping[Any, str]) -> Path:
    """Find the folder that holds the images, all of which must be there."""
    split = name.rstrip(string.digits)
    beside = [file.parent] if file.name == _BESIDE else []
    below = [path / name, path / "images" / name, path / split, path / "images" / split]
    folders = beside or [*below, path / "images", path]
    first = next(iter(images.values()))
    folder = next((each for each in folders if (each / first).is_file()), None)
    if folder is None:
        places = ", ".join(f"{each}/" for each in folders)
        raise InputError(f"{file} names {first}, which is in none of {places}")
    missing = [image for image in images.values() if not (folder / image).is_file()]
    if missing:
        raise InputError(
            f"{file} names {len(missing)} images that are not in {folder}: {shorten(missing, 4)}"
        )
    return folder
