"""Detections in the images of a split, and what they sum up to."""

import dataclasses
import functools
from typing import Any

import numpy as np

from train.average_precision import Precision, average_precision


@dataclasses.dataclass(frozen=True)
class Detections:
    """Judgement of each readable image of a split, in its order.

    Attributes:
      index: place of the image in the split.
      objects: its objects, see `train.data.objects.readers.Padded`.
      found: what was found, see `DetectionLoss.judge`.
      loss: the loss of the image.
      classes: number of classes, the background included.
      unreadable: number of images that were skipped.
    """

    index: np.ndarray
    objects: dict[str, np.ndarray]
    found: dict[str, np.ndarray]
    loss: np.ndarray
    classes: int
    unreadable: int

    @functools.cached_property
    def precision(self) -> Precision:
        """COCO's average precision."""
        return average_precision(self.objects, self.found, self.classes)

    def means(self) -> dict[str, float]:
        """Return the mean average precision (map, map50, map75) and the loss."""
        precision = self.precision
        return {
            "map": precision.map,
            "map50": precision.map50,
            "map75": precision.map75,
            "loss": float(self.loss.mean(dtype=np.float64)),
        }

    def per_class(self, names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
        """Return average precision and number of objects of each class but the background.

        The precision of a class without objects is None.
        """
        labels = self.objects["labels"][~self.objects["ignored"]]
        counts = np.bincount(labels, minlength=self.classes).tolist()
        columns = zip(names, self.precision.classes.tolist(), counts, strict=True)
        return {
            name: {"average_precision": precision if count else None, "objects": count}
            for name, precision, count in list(columns)[1:]
        }
