"""Data sets of images with boxes, by name."""

from pathlib import Path

import numpy as np

from flaxmobile.detection.objects import PREPROCESSING
from flaxmobile.errors import InputError
from train.data import scenes
from train.data.objects.annotations import Annotations
from train.data.objects.folders import open_annotated
from train.data.records import Dataset, Selection


def open_objects(name: str, selection: Selection) -> Dataset:
    """Open a data set for detection.

    Args:
      name: "scenes" (embedded), or "folder:PATH" (COCO's, Pascal VOC's, YOLO's or WIDER FACE's
        files).
      selection: what is used for which split.

    Raises:
      InputError: an unknown name, or data that is missing, damaged or incomplete.
    """
    if name == scenes.NAME:
        return scenes.open_scenes(_annotations_of_scene)
    if not name.startswith("folder:"):
        raise InputError(f"--dataset is {name}; accepted for --task detect: scenes, folder:PATH")
    splits = open_annotated(Path(name.removeprefix("folder:")).expanduser(), selection)
    return Dataset(
        name=name,
        class_names=splits.class_names,
        train=splits.train,
        validation=splits.validation,
        test=splits.test,
        preset=PREPROCESSING,
        notes=splits.notes,
    )


def _annotations_of_scene(scene: scenes.Scene) -> Annotations:
    height, width, _ = scene.image.shape
    ignored = np.zeros(len(scene.labels), bool)
    return Annotations((width, height), scene.boxes, scene.labels, ignored)
