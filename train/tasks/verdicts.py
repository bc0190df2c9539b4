"""Judgements of a classifier's images, and what they sum up to."""

import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Verdicts:
    """Judgement of each readable image of a split, in its order.

    Attributes:
      index: place of the image in the split.
      label: its class; 0 and 1 for each class where an image may have several labels.
      predicted: the class with the highest logit.
      rank: number of other classes that are not below the label's, 0 for a hit.
      loss: the loss of the image.
      classes: number of classes.
      unreadable: number of images that were skipped.
      scores: logits [n, classes] where images may have several labels; otherwise None.
    """

    index: np.ndarray
    label: np.ndarray
    predicted: np.ndarray
    rank: np.ndarray
    loss: np.ndarray
    classes: int
    unreadable: int
    scores: np.ndarray | None = None

    def means(self) -> dict[str, float]:
        """Average accuracy, loss and, where there are more than 5 classes, top5.

        Where images may have several labels, "accuracy" counts those whose highest class is one of
        them, and "map" is the mean of the classes' average precisions.
        """
        result = {
            "accuracy": float((self.rank < 1).mean()),
            "loss": float(self.loss.mean(dtype=np.float64)),
        }
        if self.classes > 5:
            result["top5"] = float((self.rank < 5).mean())
        if self.scores is not None:
            result["map"] = float(np.nanmean(self.precisions()))
        return result

    def per_class(self, names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
        """Compute precision, recall and F1 of each class, and how many images it has.

        Numbers that divide by zero are 0. Where images may have several labels it is the average
        precision, None for a class without images.
        """
        if self.scores is not None:
            counts = self.label.sum(axis=0).tolist()
            return {
                name: {"average_precision": float(precision) if count else None, "images": count}
                for name, precision, count in zip(names, self.precisions(), counts, strict=True)
            }
        counts = self.confusion()
        hits, labels, predictions = np.diag(counts), counts.sum(1), counts.sum(0)
        columns = {
            "precision": hits / np.maximum(1, predictions),
            "recall": hits / np.maximum(1, labels),
            "f1": 2 * hits / np.maximum(1, labels + predictions),
            "images": labels,
        }
        return {
            name: {key: column[index].item() for key, column in columns.items()}
            for index, name in enumerate(names)
        }

    def precisions(self) -> np.ndarray:
        """Return the average precision of each class, [classes]; NaN for one without images."""
        assert self.scores is not None
        columns = zip(self.label.T, self.scores.T, strict=True)
        return np.array([_average_precision(label != 0, score) for label, score in columns])

    def confusion(self) -> np.ndarray:
        """Count images by label (rows) and prediction (columns): int [classes, classes]."""
        counts = np.zeros((self.classes, self.classes), np.int64)
        np.add.at(counts, (self.label, self.predicted), 1)
        return counts


def _average_precision(label: np.ndarray, score: np.ndarray) -> float:
    """Average, over the images [n] that have the label, the precision at their score."""
    if not label.any():
        return np.nan
    mine = score[label]
    hits, found = (len(scores) - np.searchsorted(np.sort(scores), mine) for scores in (mine, score))
    return float(np.mean(hits / found))
