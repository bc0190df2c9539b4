"""The images that a detector judges worst, for mistakes.png."""

from pathlib import Path

import numpy as np

from train.data.examples import EvalReader
from train.data.records import Record, Source
from train.pictures import BoxedImage, DrawnBox
from train.tasks.detections import Detections
from train.tasks.results import read_again

_MOST_MISTAKES = 8
_LEAST_SCORE = 0.3
"""Least score of a box that is drawn; below, a detector finds a hundred in any image."""


def worst_images(
    reader: EvalReader, source: Source, detections: Detections, names: tuple[str, ...]
) -> list[BoxedImage]:
    """Read the images with the largest loss, with their objects and what was found in them.

    Args:
      reader: of the split, to the pixels that the boxes are in.
      source: the split.
      detections: judgements of its images.
      names: of the classes, the background's first.
    """
    rows = []
    worst = np.argsort(-detections.loss, kind="stable")[:_MOST_MISTAKES].tolist()

    def read(record: Record) -> tuple[np.ndarray, str]:
        return reader(record).image, Path(record.name).name

    for place, (image, name) in read_again(source, detections, worst, read):
        own = {key: each[place] for key, each in detections.objects.items()}
        objects = zip(own["boxes"], own["labels"].tolist(), own["ignored"], strict=True)
        found = {key: each[place] for key, each in detections.found.items()}
        answers = zip(found["boxes"], found["labels"].tolist(), found["scores"], strict=True)
        rows.append(
            BoxedImage(
                image,
                [
                    DrawnBox(box, label, names[label] + " (ignored)" * bool(ignored))
                    for box, label, ignored in objects
                    if label
                ],
                [
                    DrawnBox(box, label, f"{names[label]} {score:.2f}")
                    for box, label, score in answers
                    if score >= _LEAST_SCORE
                ],
                f"{name}: loss {detections.loss[place]:.2f}",
            )
        )
    return rows
