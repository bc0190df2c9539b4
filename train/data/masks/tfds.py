"""Data sets of TFDS whose images have masks."""

import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from train.data.masks.folders import PRESET
from train.data.masks.label_map import IGNORE, LabelMap, map_values, read_label_map
from train.data.masks.layouts import CITYSCAPES
from train.data.masks.mask import IGNORED, EncodedMask, Size, number_classes
from train.data.prepared import (
    Examples,
    check_features,
    choose_splits,
    features_of,
    is_image,
    prepared_builder,
)
from train.data.records import Dataset, Record, Selection

_IMAGES = ("image", "image_left")
_MASKS = ("segmentation_mask", "segmentation_label", "mask", "annotation", "label")
"""Names of the two features in TFDS's own data sets, the surest first."""

_VALUES: Mapping[str, Mapping[int, str]] = {
    "oxford_iiit_pet": {1: "pet", 2: "background", 3: IGNORE},
    "cityscapes": CITYSCAPES,
}
"""What the values of masks mean where TFDS does not say. Source: the README of Oxford's trimaps (3
is not classified)."""


def open_tfds_masks(
    name: str, data_dir: str | None, selection: Selection, others: tuple[str, ...]
) -> Dataset:
    """Open a TFDS data set of images with masks, see `train.data.masks.opening.open_masks`.

    Classes are those of --label-map, or the names of a LabeledImage, or numbers.
    """
    builder = prepared_builder(name, data_dir, _find_features, others)
    image, mask = _find_features(builder)
    splits, notes = choose_splits(builder, selection)
    label_map = _label_map(builder, mask, selection)
    table = label_map.table if label_map else None
    sources = {
        split: TfdsMasks(Examples(builder, expression, (image, mask)), image, mask, table)
        for split, expression in splits.items()
    }
    class_names = label_map.class_names if label_map else _stated_names(builder, mask)
    if not class_names:
        class_names = number_classes(sources["train"])
        notes += (
            f"{len(class_names)} classes, by the largest value in the training masks; --label-map "
            "can name them",
        )
    return Dataset(
        name=name,
        class_names=class_names,
        train=sources["train"],
        validation=sources["validation"],
        test=sources.get("test"),
        preset=PRESET,
        notes=(f"masks: the feature {mask} of {builder.name}", *notes),
    )


class TfdsMasks:
    """Images of a split with their masks."""

    def __init__(self, examples: Examples, image: str, mask: str, table: bytes | None) -> None:
        """Read two features of a split; the table is that of `EncodedMask`."""
        self._examples, self._image, self._mask, self._table = examples, image, mask, table

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> Record:
        """Read an image and its mask."""
        example, name = self._examples[index], self._examples.name_of(index)
        label = EncodedMask(example[self._mask], f"{name}/{self._mask}", self._table)
        return Record(example[self._image], label, name)

    def labels(self) -> np.ndarray:
        """Return the same class for all: an image has several."""
        return np.zeros(len(self), np.int64)

    def listing(self) -> Iterable[str]:
        """Name the split: its version of TFDS fixes the records."""
        return (f"{self._examples.name} {self._mask}",)

    def sizes(self) -> Iterator[Size]:
        """Read the size of each mask that can be read."""
        for index in range(len(self)):
            try:
                with Image.open(io.BytesIO(self._examples[index][self._mask])) as file:
                    yield file.size
            except OSError:  # reading the pair says what is wrong
                continue


def _find_features(builder: Any) -> tuple[str, str]:
    """Name the features of image and mask; InputError where there are none."""
    features = features_of(builder)
    images = [key for key, feature in features.items() if is_image(feature)]
    image = next((key for key in _IMAGES if key in images), None)
    labelled = [key for key in images if isinstance(features[key], tfds.features.LabeledImage)]
    mask = next((key for key in (*labelled, *_MASKS) if key in images), None)
    check_features(
        builder,
        bool(image and mask),
        "images with masks",
        f"image (Image) and a mask (LabeledImage, or an Image called {', '.join(_MASKS)})",
    )
    assert image and mask
    return image, mask


def _label_map(builder: Any, mask: str, selection: Selection) -> LabelMap | None:
    if selection.label_map:
        return read_label_map(selection.label_map)
    if builder.name in _VALUES and not _stated_names(builder, mask):
        return map_values(_VALUES[builder.name], others=IGNORED)
    return None


def _stated_names(builder: Any, mask: str) -> tuple[str, ...]:
    feature = builder.info.features[mask]
    return tuple(feature.names) if isinstance(feature, tfds.features.LabeledImage) else ()
