"""Data sets of TFDS whose images have boxes."""

import io
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from flaxmobile.detection.objects import PREPROCESSING
from flaxmobile.images import read_errors, upright_size
from train.data.files import LeftOut
from train.data.objects.annotations import annotate
from train.data.prepared import (
    Examples,
    check_features,
    choose_splits,
    features_of,
    is_image,
    prepared_builder,
)
from train.data.records import BACKGROUND, Dataset, Record, Selection

_IGNORED = ("is_crowd", "is_difficult", "invalid")
"""Features of objects that are not to be found (COCO, Pascal VOC, WIDER FACE)."""


class _Objects(NamedTuple):
    """Where the objects of an example are.

    Attributes:
      feature: name of the sequence.
      class_names: of its labels; one class where it has none.
      ignored: names of its features that say that an object is ignored.
    """

    feature: str
    class_names: tuple[str, ...]
    ignored: tuple[str, ...]


def open_tfds_objects(
    name: str, data_dir: str | None, selection: Selection, others: tuple[str, ...]
) -> Dataset:
    """Open a TFDS data set of images with boxes, see `train.data.objects.opening.open_objects`."""
    builder = prepared_builder(name, data_dir, _find_objects, others)
    objects = _find_objects(builder)
    splits, notes = choose_splits(builder, selection)
    sources = {split: TfdsObjects(builder, each, objects) for split, each in splits.items()}
    test = sources.get("test")
    if test and not test.labels().any():
        notes += (f"{builder.name}/{splits['test']} has no boxes and is not evaluated",)
        test = None
    return Dataset(
        name=name,
        class_names=(BACKGROUND, *objects.class_names),
        train=sources["train"],
        validation=sources["validation"],
        test=test,
        preset=PREPROCESSING,
        notes=notes,
    )


class TfdsObjects:
    """Images of a split with their objects."""

    def __init__(self, builder: Any, split: str, objects: _Objects) -> None:
        """Open a split, or a slice of one such as "train[90%:]"; InputError if it is empty."""
        self._examples = Examples(builder, split, ("image", objects.feature))
        self._objects = objects

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> Record:
        """Read an image and its objects; InputError for an invalid box or label."""
        example, name = self._examples[index], self._examples.name_of(index)
        with read_errors(name), Image.open(io.BytesIO(example["image"])) as image:
            width, height = upright_size(image)
        found = example[self._objects.feature]
        # TFDS has (ymin, xmin, ymax, xmax) as shares of the sides.
        boxes = np.asarray(found["bbox"], np.float64).reshape(-1, 4)[:, [1, 0, 3, 2]]
        boxes = boxes * [width, height, width, height]
        rows = zip(boxes, self._classes(found), self._ignored(found), strict=True)
        return Record(
            example["image"], annotate((width, height), list(rows), name, LeftOut()), name
        )

    def labels(self) -> np.ndarray:
        """Return 0 or 1 for each class of each image, [n, classes]."""
        flags = np.zeros((len(self), len(self._objects.class_names) + 1), np.int32)
        for index, row in enumerate(flags):
            row[self._classes(self._examples[index][self._objects.feature])] = 1
        return flags

    def listing(self) -> Iterable[str]:
        """Name the split: its version of TFDS fixes the records."""
        return (self._examples.name,)

    def most_objects(self) -> int:
        """Return the number of objects in the image that has most, at least 1."""
        counts = (
            len(self._examples[index][self._objects.feature]["bbox"]) for index in range(len(self))
        )
        return max(1, *counts)

    def _classes(self, found: Mapping[str, Any]) -> list[int]:
        """Number the classes from 1; 0 is the background."""
        if "label" not in found:
            return [1] * len(found["bbox"])
        return [int(label) + 1 for label in found["label"]]

    def _ignored(self, found: Mapping[str, Any]) -> list[bool]:
        flags = np.zeros(len(found["bbox"]), bool)
        for name in self._objects.ignored:
            flags |= np.asarray(found[name], bool).reshape(-1)
        return flags.tolist()


def _find_objects(builder: Any) -> _Objects:
    """Find the sequence with boxes; InputError where there is none."""
    features = features_of(builder)
    found = next((key for key, each in features.items() if "bbox" in _inside(each)), None)
    check_features(
        builder,
        bool(found) and is_image(features.get("image")),
        "images with boxes",
        "image (Image) and a sequence with bbox (BBoxFeature)",
    )
    assert found is not None
    inside = _inside(features[found])
    label = inside.get("label")
    names = (
        tuple(label.names)
        if isinstance(label, tfds.features.ClassLabel)
        else (found.removesuffix("s"),)
    )
    return _Objects(found, names, tuple(name for name in _IGNORED if name in inside))


def _inside(feature: Any) -> dict[str, Any]:
    """Return the features of a sequence of dictionaries; none of another feature."""
    if not isinstance(feature, tfds.features.Sequence):
        return {}
    inner = feature.feature
    return dict(inner.items()) if isinstance(inner, tfds.features.FeaturesDict) else {}
