"""Sizes of a data set that is not there, to plan a run: sizes:IMAGESxCLASSES."""

import dataclasses
import re
from collections.abc import Iterable

import numpy as np

from flaxmobile.errors import InputError
from train.data.augment import augment_photograph
from train.data.records import Dataset, Record


@dataclasses.dataclass(frozen=True)
class StandIn:
    """A number of images without content."""

    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Record:
        raise InputError("--dataset sizes:… holds no images: it is for --plan")

    def labels(self) -> np.ndarray:
        """Return the first class for all."""
        return np.zeros(self.count, np.int64)

    def listing(self) -> Iterable[str]:
        """Name nothing."""
        return ()


def open_stand_in(name: str) -> Dataset:
    """Make a data set of sizes alone, see `train.data.open_dataset`."""
    found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", name.removeprefix("sizes:"))
    if not found:
        raise InputError(
            f"--dataset is {name}; accepted: sizes:IMAGESxCLASSES, such as sizes:1281167x1000 "
            "for ImageNet"
        )
    images, classes = map(int, found.groups())
    source = StandIn(images)
    return Dataset(
        name=name,
        class_names=tuple(map(str, range(classes))),
        train=source,
        validation=source,
        test=None,
        augment=augment_photograph,
    )
