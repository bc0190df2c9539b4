"""COCO's mean average precision of detectors, by pycocotools."""

import contextlib
import io
from typing import Any, NamedTuple

import numpy as np

from flaxmobile.errors import InputError, pip_install

MOST = 100
"""Most detections of an image and class that count (COCO's maxDets)."""


class Precision(NamedTuple):
    """Average precision, averaged over classes that have objects; NaN where none has.

    Attributes:
      map: mean over the IoU thresholds 0.5, 0.55, …, 0.95.
      map50, map75: at IoU 0.5 and 0.75.
      classes: `map` of each class, [classes], the background's first; NaN without objects.
    """

    map: float
    map50: float
    map75: float
    classes: np.ndarray


def check_library() -> None:
    """Raise InputError unless pycocotools is installed."""
    try:
        import pycocotools  # noqa: F401
    except ImportError:
        raise InputError(
            f"--task detect measures by pycocotools: {pip_install('detect')}"
        ) from None


def average_precision(
    objects: dict[str, np.ndarray], found: dict[str, np.ndarray], classes: int
) -> Precision:
    """Compare detections with objects.

    Args:
      objects: of n images, {"boxes": [n, objects, 4], "labels": [n, objects], "ignored": bool
        [n, objects]}; images with fewer are padded with label 0. Boxes are (xmin, ymin, xmax,
        ymax).
      found: {"boxes": [n, detections, 4], "labels": [n, detections], "scores": [n, detections]} in
        the same order of images; padded with score 0.
      classes: number of classes, the background included.

    Raises:
      InputError: pycocotools is not installed.
    """
    check_library()
    from pycocotools.cocoeval import COCOeval

    crowds = objects["ignored"].astype(int)
    truth = _index(objects, objects["labels"] > 0, classes, iscrowd=crowds)
    detections = _index(found, found["scores"] > 0, classes, score=found["scores"].astype(float))
    with contextlib.redirect_stdout(io.StringIO()):  # it reports each step
        evaluation = COCOeval(truth, detections, "bbox")
        settings = evaluation.params
        settings.areaRng, settings.areaRngLbl = settings.areaRng[:1], settings.areaRngLbl[:1]
        settings.maxDets = [MOST]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][..., 0, 0]  # [overlaps, recalls, classes - 1]
    by_class = np.where(precision < 0, np.nan, precision).mean(1)
    there = ~np.isnan(by_class[0])
    means = by_class[:, there].mean(1) if there.any() else np.full(len(by_class), np.nan)
    return Precision(
        float(means.mean()),
        float(means[0]),
        float(means[5]),
        np.concatenate([[np.nan], by_class.mean(0)]),
    )


def _index(
    boxes: dict[str, np.ndarray], there: np.ndarray, classes: int, **columns: np.ndarray
) -> Any:
    """Build pycocotools' index of the boxes that are there, with more columns."""
    from pycocotools.coco import COCO

    images, _ = rows = np.nonzero(there)
    corners = boxes["boxes"][rows].astype(float)
    sides = corners[:, 2:] - corners[:, :2]
    named = {
        "id": 1 + np.arange(len(images)),  # 0 would mean that nothing matches
        "image_id": images,
        "category_id": boxes["labels"][rows],
        "bbox": np.concatenate([corners[:, :2], sides], 1),
        "area": sides.prod(1),
        "iscrowd": np.zeros(len(images), int),
        **{name: values[rows] for name, values in columns.items()},
    }
    lists = [values.tolist() for values in named.values()]
    index = COCO()
    index.dataset = {
        "images": [{"id": image} for image in range(len(there))],
        "categories": [{"id": label} for label in range(1, classes)],
        "annotations": [dict(zip(named, row, strict=True)) for row in zip(*lists, strict=True)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        index.createIndex()
    return index
