"""Data sets of images with boxes, by name."""

from pathlib import Path

import numpy as np

from flaxmobile.detection.objects import PREPROCESSING
from train.data import scenes
from train.data.objects.annotations import Annotations
from train.data.objects.folders import open_annotated
from train.data.records import Dataset, Selection, refuse
from train.data.tfds_names import taken_for_tfds

_WITHOUT_TFDS = (scenes.NAME, "folder:PATH")


def open_objects(name: str, data_dir: str | None, selection: Selection) -> Dataset:
    """Open a data set for detection.

    Args:
      name: "scenes" (embedded), "folder:PATH" (COCO's, Pascal VOC's, YOLO's or WIDER FACE's
        files), or the name of a TFDS data set whose images have boxes (extra `tfds`).
      data_dir: directory of TFDS's data; by default TFDS's own.
      selection: what is used for which split.

    Raises:
      InputError: an unknown name, or data that is missing, damaged or incomplete.
    """
    if name == scenes.NAME:
        refuse(selection, name, "val_split", "splits")
        return scenes.open_scenes(_annotations_of_scene)
    if not name.startswith("folder:"):
        with taken_for_tfds(name, _WITHOUT_TFDS):
            from train.data.objects.tfds import open_tfds_objects
        return open_tfds_objects(name, data_dir, selection, _WITHOUT_TFDS)
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
