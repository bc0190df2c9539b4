"""Results of a segmenter's best weights: test.json, confusion.png and mistakes.png."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from flaxmobile.errors import InputError
from flaxmobile.files import written_at_once
from train.data import Dataset
from train.data.examples import EvalReader
from train.data.records import Source
from train.pictures import plot_confusion, plot_masks
from train.tasks.pixels import PixelVerdicts, intersection_over_union

_MOST_MISTAKES = 8


def write_results(
    output: Path,
    dataset: Dataset,
    reader: EvalReader,
    source: Source,
    verdicts: PixelVerdicts,
) -> None:
    """Write what the judgements of a split say of each class, and draw the worst images."""
    counts = verdicts.counts()
    result = {
        "split": "validation" if dataset.test is None else "test",
        "images": len(verdicts.index),
        "unreadable": verdicts.unreadable,
        **verdicts.means(),
        "classes": per_class(counts, dataset.class_names),
    }
    with written_at_once(output / "test.json") as draft:
        draft.write_text(json.dumps(result, indent=2) + "\n")
    plot_confusion(counts, dataset.class_names, output / "confusion.png", unit="pixels")
    if rows := _worst(reader, source, verdicts):
        plot_masks(rows, dataset.class_names, output / "mistakes.png")


def per_class(counts: np.ndarray, names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Give intersection over union, accuracy and pixels of each class.

    Args:
      counts: pixels by class (rows) and prediction (columns).
      names: of the classes.

    Returns:
      Numbers by name; None for those of a class that is not there.
    """
    union, pixels = intersection_over_union(counts), counts.sum(1)
    return {
        name: {
            "iou": None if np.isnan(union[index]) else float(union[index]),
            "accuracy": float(counts[index, index] / pixels[index]) if pixels[index] else None,
            "pixels": int(pixels[index]),
        }
        for index, name in enumerate(names)
    }


def _worst(
    reader: EvalReader, source: Source, verdicts: PixelVerdicts
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, str]]:
    """Read the images with the least mean intersection over union, with both masks and it."""
    unions = intersection_over_union(verdicts.confusion)
    known = np.flatnonzero(verdicts.confusion.sum((1, 2)))
    quality = np.nanmean(unions[known], axis=1)
    rows = []
    for place in known[np.argsort(quality, kind="stable")][:_MOST_MISTAKES].tolist():
        record = source[int(verdicts.index[place])]
        try:
            image = reader(record).image
        except InputError:  # it was there a moment ago
            continue
        label, predicted = verdicts.thumbnails[place]
        text = f"{Path(record.name).name}: {np.nanmean(unions[place]):.1%}"
        rows.append((image, label, predicted, text))
    return rows
