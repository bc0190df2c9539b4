"""`flaxmobile predict`: classify image files or their pixels, or find objects or faces."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import tyro

from convert.published.loading import open_any_weights
from flaxmobile.allocator import keep_freed_memory
from flaxmobile.cli.boxes import (
    boxes_in_json,
    find_boxes,
    is_detector,
    plot_boxes,
    table_of_boxes,
)
from flaxmobile.cli.plot import Overlay, plot_predictions
from flaxmobile.command.flags import PICTURES, check_writable, parse, reading_arguments
from flaxmobile.errors import InputError, check_value
from flaxmobile.layers import Model
from flaxmobile.outputs import default_output
from flaxmobile.prediction import predict_images, segment_images
from flaxmobile.segmentation import Segmenter
from flaxmobile.table import RULE, format_table
from flaxmobile.trees import Tree
from flaxmobile.weights import Metadata

_MOST_PICTURES = 64
_SHARE = "share"
"""The answer of a segmenter: the share of an image's pixels that each class has."""
_FORMATS = {"softmax": ".2%", "sigmoid": ".2%", "none": ".5g", _SHARE: ".2%"}
"""Output of the weights -> how its numbers are printed."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Classify images or their pixels, or find objects or faces in them."""

    images: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="IMAGE…", help_behavior_hint="(at least one)"),
    ]
    """Image files: RGB, grey, 16 bit, palette, with transparency or CMYK."""
    weights: Annotated[str, tyro.conf.arg(metavar="DIR|PUBLISHED")]
    """Weights directory: `best` of a training run, or what `python -m convert` wrote; or published
    weights such as torchvision:mobilenet_v2; `flaxmobile list --pretrained` shows them."""
    top: int = 5
    """Number of classes to show for each image."""
    threshold: float = 0.5
    """Least score of the boxes that a detector shows, 0 to 1."""
    json: bool = False
    """Print a JSON array for machines instead of the table."""
    plot: Annotated[Path | None, tyro.conf.arg(metavar="FILE.png")] = None
    """Draw each image beside a bar chart of its classes, under the mask of a segmenter, or with the
    boxes of a detector."""

    def check(self) -> None:
        """Raise InputError for values that are not accepted."""
        if not self.images:
            raise InputError("no IMAGE was given")
        if self.top < 1:
            raise InputError(f"--top is {self.top}; accepted: 1 or more")
        check_value("--threshold", self.threshold, 0 <= self.threshold <= 1, "0 to 1")
        if self.plot is not None:
            check_writable("--plot", self.plot, PICTURES)
            if len(self.images) > _MOST_PICTURES:
                raise InputError(
                    f"--plot shows at most {_MOST_PICTURES} images, {len(self.images)} were given"
                )


@dataclasses.dataclass(frozen=True)
class Prediction:
    """A class and its answer: a probability or a share, 0 to 1, or another number."""

    index: int
    name: str
    answer: float


def main(prog: str, argv: Sequence[str]) -> None:
    """Print the classes of each image, the most probable or the largest first."""
    config = parse(Config, argv, prog)
    with reading_arguments(prog):
        config.check()
    for path in config.images:  # before the long work; images that cannot be read fail later
        if not path.exists():
            raise InputError(f"{path} cannot be read: there is no such file")
    weights = open_any_weights(config.weights)
    model, variables = weights.load()
    if is_detector(model):
        show_boxes(config, model, variables, weights.metadata)
        return
    if model.num_classes == 0:
        raise InputError(f"{config.weights} cannot classify: its model has num_classes 0")
    if jax.default_backend() == "cpu":
        keep_freed_memory()
    metadata = weights.metadata
    output = metadata.output or default_output(model.num_classes)
    names = metadata.class_names or tuple(map(str, range(model.num_classes)))
    overlays: list[Overlay] = []
    if isinstance(model, Segmenter):
        output, results = _SHARE, []
        names = names if len(names) > 1 else ("background", *names)
        for mask in segment_images(model, variables, config.images, metadata.preprocessing):
            shares = np.bincount(mask.ravel(), minlength=len(names)) / mask.size
            results.append([each for each in _best(shares, names, config.top) if each.answer])
            overlays.append(Overlay.of(mask, [each.index for each in results[-1]]))
    else:
        answers = predict_images(model, variables, config.images, metadata.preprocessing, output)
        results = [_best(row, names, config.top) for row in answers]
    if config.plot is not None:
        bars = [[(each.name, each.answer) for each in best] for best in results]
        plot_predictions(config.plot, config.images, bars, _FORMATS[output], overlays)
    print((_json if config.json else _table)(config.images, results, output))


def show_boxes(config: Config, model: Model, variables: Tree, metadata: Metadata) -> None:
    """Print, and draw, what a detector finds in each image."""
    results = [
        find_boxes(model, variables, path, metadata, config.threshold) for path in config.images
    ]
    if config.plot is not None:
        plot_boxes(config.plot, config.images, results)
    print((boxes_in_json if config.json else table_of_boxes)(config.images, results))


def _best(answers: np.ndarray, names: Sequence[str], top: int) -> list[Prediction]:
    order = np.argsort(-answers, kind="stable")[:top]
    return [Prediction(int(i), names[i], float(answers[i])) for i in order]


def _json(paths: Sequence[Path], results: Sequence[Sequence[Prediction]], output: str) -> str:
    array = [
        {
            "image": str(path),
            "predictions": [
                {"index": each.index, "class": each.name, _kind(output): each.answer}
                for each in best
            ],
        }
        for path, best in zip(paths, results, strict=True)
    ]
    return json.dumps(array, indent=2)


def _kind(output: str) -> str:
    return {"none": "value", _SHARE: _SHARE}.get(output, "probability")


def _table(paths: Sequence[Path], results: Sequence[Sequence[Prediction]], output: str) -> str:
    rows: list[tuple[str, ...] | str] = [("image", "class", _kind(output))]
    for path, best in zip(paths, results, strict=True):
        images = (str(path), *[""] * (len(best) - 1))
        rows.append(RULE)
        rows += [
            (image, each.name, f"{each.answer:{_FORMATS[output]}}")
            for image, each in zip(images, best, strict=True)
        ]
    return format_table(rows, right=(2,))
