"""`flaxmobile predict` with a classifier or a segmenter: classes of images or of their pixels."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flaxmobile.cli.plot import Overlay
from flaxmobile.layers import Model
from flaxmobile.outputs import default_output
from flaxmobile.prediction import Frame, predict_images, segment_images
from flaxmobile.segmentation import Segmenter
from flaxmobile.table import RULE, format_table
from flaxmobile.trees import Tree
from flaxmobile.weights import Metadata

_SHARE = "share"
"""The answer of a segmenter: the share of an image's pixels that each class has."""
_FORMATS = {"softmax": ".2%", "sigmoid": ".2%", "none": ".5g", _SHARE: ".2%"}
"""Output of the weights -> how its numbers are printed."""


@dataclasses.dataclass(frozen=True)
class Prediction:
    """A class and its answer: a probability or a share, 0 to 1, or another number."""

    index: int
    name: str
    answer: float


class Classes(NamedTuple):
    """What is said of an image.

    Attributes:
      best: its classes, the most probable or the largest first.
      overlay: a segmenter's mask; None for a classifier.
    """

    best: list[Prediction]
    overlay: Overlay | None


def output_of(model: Model, metadata: Metadata) -> str:
    """Return what the answers are: an activation of `flaxmobile.outputs`, or shares."""
    if isinstance(model, Segmenter):
        return _SHARE
    return metadata.output or default_output(model.num_classes)


def find_classes(
    model: Model,
    variables: Tree,
    metadata: Metadata,
    images: Iterable[Path | Frame],
    top: int,
    batch_size: int = 32,
) -> Iterator[Classes]:
    """Find the best `top` classes of each image; a segmenter's are those that have pixels.

    Raises:
      InputError: an image cannot be read, or gives values that are not finite.
    """
    names = metadata.class_names or tuple(map(str, range(model.num_classes)))
    preprocessing = metadata.preprocessing
    if isinstance(model, Segmenter):
        names = names if len(names) > 1 else ("background", *names)
        for mask in segment_images(model, variables, images, preprocessing):
            shares = np.bincount(mask.ravel(), minlength=len(names)) / mask.size
            best = [each for each in _best(shares, names, top) if each.answer]
            yield Classes(best, Overlay.of(mask, [each.index for each in best]))
        return
    output = output_of(model, metadata)
    for row in predict_images(model, variables, images, preprocessing, output, batch_size):
        yield Classes(_best(row, names, top), None)


def _best(answers: np.ndarray, names: Sequence[str], top: int) -> list[Prediction]:
    order = np.argsort(-answers, kind="stable")[:top]
    return [Prediction(int(i), names[i], float(answers[i])) for i in order]


def describe_classes(best: Sequence[Prediction], output: str) -> list[dict[str, Any]]:
    """Return what JSON and CSV say of the classes of an image."""
    return [
        {"index": each.index, "class": each.name, kind_of(output): each.answer} for each in best
    ]


def kind_of(output: str) -> str:
    """Return the name of the answers."""
    return {"none": "value", _SHARE: _SHARE}.get(output, "probability")


def form_of(output: str) -> str:
    """Return the format of the answers' numbers."""
    return _FORMATS[output]


def table_of_classes(
    images: Sequence[Path | Frame], results: Sequence[Sequence[Prediction]], output: str
) -> str:
    """Lay the classes out as a table, a row for each."""
    rows: list[tuple[str, ...] | str] = [("image", "class", kind_of(output))]
    for image, best in zip(images, results, strict=True):
        names = (str(image), *[""] * (len(best) - 1))
        rows.append(RULE)
        rows += [
            (name, each.name, f"{each.answer:{form_of(output)}}")
            for name, each in zip(names, best, strict=True)
        ]
    return format_table(rows, right=(2,))
