"""Results of a classifier's best weights: test.json, confusion.png and mistakes.png."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from flaxmobile.errors import InputError
from flaxmobile.files import written_at_once
from flaxmobile.images import read_image
from flaxmobile.preprocessing import Preprocessing
from train.data import Dataset
from train.data.records import Source
from train.pictures import plot_confusion, plot_mistakes
from train.tasks.verdicts import Verdicts

_MOST_MISTAKES = 20


def write_results(
    output: Path,
    dataset: Dataset,
    preprocessing: Preprocessing,
    source: Source,
    verdicts: Verdicts,
) -> None:
    """Write what the judgements of a split say of each class, and draw the worst mistakes."""
    names = dataset.class_names
    matrix = None if verdicts.scores is not None else verdicts.confusion()
    result = {
        "split": "validation" if dataset.test is None else "test",
        "images": len(verdicts.label),
        "unreadable": verdicts.unreadable,
        **verdicts.means(),
        "classes": per_label(verdicts, names) if matrix is None else per_class(matrix, names),
    }
    with written_at_once(output / "test.json") as draft:
        draft.write_text(json.dumps(result, indent=2) + "\n")
    if matrix is not None:
        plot_confusion(matrix, names, output / "confusion.png")
    picture = output / "mistakes.png"
    if mistakes := _worst(preprocessing, source, verdicts, names):
        plot_mistakes(mistakes, picture)
    else:
        picture.unlink(missing_ok=True)


def per_label(verdicts: Verdicts, names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Compute average precision and number of images of each class of a multi-label data set.

    The precision of a class without images is None.
    """
    counts = verdicts.label.sum(axis=0).tolist()
    return {
        name: {"average_precision": float(precision) if count else None, "images": count}
        for name, precision, count in zip(names, verdicts.precisions(), counts, strict=True)
    }


def per_class(counts: np.ndarray, names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Compute precision, recall and F1 of each class, and how many images it has.

    Args:
      counts: images by label (rows) and prediction (columns).
      names: of the classes.

    Returns:
      Numbers by name; those that divide by zero are 0.
    """
    hits, labels, predictions = np.diag(counts), counts.sum(1), counts.sum(0)
    precision, recall = hits / np.maximum(1, predictions), hits / np.maximum(1, labels)
    f1 = 2 * hits / np.maximum(1, labels + predictions)
    return {
        name: {
            "precision": float(precision[index]),
            "recall": float(recall[index]),
            "f1": float(f1[index]),
            "images": int(labels[index]),
        }
        for index, name in enumerate(names)
    }


def _worst(
    preprocessing: Preprocessing, source: Source, verdicts: Verdicts, names: tuple[str, ...]
) -> list[tuple[np.ndarray, str]]:
    """Read the mistakes with the largest loss, each with its label and prediction."""
    wrong = np.flatnonzero(verdicts.rank > 0)
    worst = wrong[np.argsort(-verdicts.loss[wrong], kind="stable")][:_MOST_MISTAKES]
    mistakes = []
    for place in worst:
        record = source[int(verdicts.index[place])]
        try:
            image = preprocessing.crop(read_image(record.encoded, record.name))
        except InputError:  # it was there a moment ago
            continue
        label, predicted = verdicts.label[place], names[verdicts.predicted[place]]
        own = (
            names[label] if label.ndim == 0 else ", ".join(np.array(names)[label > 0]) or "nothing"
        )
        mistakes.append((np.asarray(image), f"{own}, taken for {predicted}"))
    return mistakes
