"""Folders of images with boxes: which format they are of, and their splits."""

from pathlib import Path
from typing import NamedTuple

from flaxmobile.errors import InputError
from train.data.files import LeftOut
from train.data.holdout import ensure_validation
from train.data.objects.annotations import ObjectSource
from train.data.objects.coco import find_coco, read_coco
from train.data.objects.voc import read_voc
from train.data.objects.wider import find_wider, read_wider
from train.data.objects.yolo import read_yolo
from train.data.records import Selection


class Splits(NamedTuple):
    """Images with boxes, by split.

    Attributes:
      class_names: in the order of the labels, the background first.
      train, validation: never empty.
      test: None if there is none.
      notes: lines for the user: how it was split, what was left out.
    """

    class_names: tuple[str, ...]
    train: ObjectSource
    validation: ObjectSource
    test: ObjectSource | None
    notes: tuple[str, ...]


def open_annotated(path: Path, selection: Selection) -> Splits:
    """Open a folder of COCO's, Pascal VOC's, YOLO's or WIDER FACE's layout.

    Raises:
      InputError: none of these, or files that are missing, damaged or contradict each other.
    """
    if not path.is_dir():
        raise InputError(f"{path} is not a folder")
    left_out = LeftOut()
    if find_coco(path):
        class_names, files = read_coco(path, selection, left_out)
    elif (path / "Annotations").is_dir():
        class_names, files = read_voc(path, selection, left_out)
    elif find_wider(path):
        class_names, files = read_wider(path, selection, left_out)
    elif (path / "labels").is_dir() or any(path.glob("*/labels")):
        class_names, files = read_yolo(path, selection, left_out)
    else:
        raise InputError(
            f"{path} has no boxes; accepted: annotations/*.json (COCO), Annotations/ and "
            "JPEGImages/ (Pascal VOC), images/ and labels/ (YOLO), wider_face_split/ (WIDER FACE)"
        )
    sources = {split: ObjectSource(found, len(class_names)) for split, found in files.items()}
    train, validation, said = ensure_validation(
        sources["train"], sources.get("validation"), selection, str(path)
    )
    for split, source in {**sources, "train": train, "validation": validation}.items():
        if not source.has_objects():
            raise InputError(f"{path}: no image of the split {split} has a box")
    notes = (*said, left_out.describe())
    return Splits(class_names, train, validation, sources.get("test"), tuple(filter(None, notes)))
