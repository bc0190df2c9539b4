"""Data sets of labelled images of TFDS."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from flaxmobile.errors import InputError
from train.data.augment import augment_photograph
from train.data.prepared import (
    Examples,
    check_features,
    choose_splits,
    features_of,
    is_image,
    prepared_builder,
)
from train.data.records import Dataset, Record, Selection
from train.data.tfds_names import WITHOUT_TFDS


def open_tfds(name: str, data_dir: str | None, selection: Selection) -> Dataset:
    """Open a TFDS data set of labelled images, see `train.data.open_dataset`."""
    builder = prepared_builder(name, data_dir, _class_names, WITHOUT_TFDS)
    splits, notes = choose_splits(builder, selection)
    sources = {split: TfdsSource(builder, expression) for split, expression in splits.items()}
    test = sources.get("test")
    if test and not test.is_labelled():
        notes += (f"{test.name} has no labels and is not evaluated",)
        test = None
    return Dataset(
        name=name,
        class_names=_class_names(builder),
        train=sources["train"],
        validation=sources["validation"],
        test=test,
        augment=augment_photograph,
        notes=notes,
    )


class TfdsSource:
    """A split of a prepared data set; its images stay encoded."""

    def __init__(self, builder: Any, split: str) -> None:
        """Open a split, or a slice of one such as "train[90%:]"; InputError if it is empty."""
        self._examples = Examples(builder, split, ("image", "label"))
        self._classes = builder.info.features["label"].num_classes
        self.name = self._examples.name

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> Record:
        """Read one record; InputError if its label is outside the classes."""
        example = self._examples[index]
        name, label = self._examples.name_of(index), int(example["label"])
        if not 0 <= label < self._classes:
            raise InputError(f"{name} has label {label}; accepted: 0 to {self._classes - 1}")
        return Record(example["image"], label, name)

    def labels(self) -> np.ndarray:
        """Read the label of each record."""
        return np.array([int(self._examples[index]["label"]) for index in range(len(self))])

    def listing(self) -> Iterable[str]:
        """Name the split: its version of TFDS fixes the records."""
        return (self.name,)

    def is_labelled(self) -> bool:
        """Tell whether the split has labels; otherwise TFDS has -1 in every record."""
        return int(self._examples[0]["label"]) != -1


def _class_names(builder: Any) -> tuple[str, ...]:
    """Return the names of the classes; InputError unless these are labelled images."""
    features = features_of(builder)
    label = features.get("label")
    fine = is_image(features.get("image")) and isinstance(label, tfds.features.ClassLabel)
    check_features(builder, fine, "classified images", "image (Image) and label (ClassLabel)")
    assert label is not None
    return tuple(label.names)
