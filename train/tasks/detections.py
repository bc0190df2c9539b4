"""Detections in the images of a split, and what they sum up to."""

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np

from flaxmobile.files import written_at_once
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

    def write(self, path: Path, split: str, class_names: tuple[str, ...]) -> None:
        """Write test.json: the means, and average precision and objects of each class.

        The precision of a class without objects is None.
        """
        labels = self.objects["labels"][~self.objects["ignored"]]
        counts = np.bincount(labels, minlength=self.classes).tolist()
        precisions = self.precision.classes.tolist()
        classes: dict[str, Any] = {
            name: {"average_precision": precision if count else None, "objects": count}
            for name, precision, count in zip(
                class_names[1:], precisions[1:], counts[1:], strict=True
            )
        }
        result = {
            "split": split,
            "images": len(self.index),
            "unreadable": self.unreadable,
            **self.means(),
            "classes": classes,
        }
        with written_at_once(path) as draft:
            draft.write_text(json.dumps(result, indent=2) + "\n")
