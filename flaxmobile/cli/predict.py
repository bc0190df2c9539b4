"""`flaxmobile predict`: what is in these images?"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro

from flaxmobile.allocator import keep_freed_memory
from flaxmobile.cli.command import parse, reading_arguments
from flaxmobile.cli.plot import check_plot, plot_predictions
from flaxmobile.errors import InputError
from flaxmobile.folding import fold_batch_norm
from flaxmobile.inference import jit_inference
from flaxmobile.layers import Network
from flaxmobile.preprocessing import Preprocessing, open_image
from flaxmobile.table import RULE, format_table
from flaxmobile.weights import load_metadata, load_weights


@dataclasses.dataclass(frozen=True)
class Config:
    """Classify images."""

    images: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="IMAGE…", help_behavior_hint="(at least one)"),
    ]
    """Image files: RGB, grey, 16 bit, palette, with transparency or CMYK."""
    weights: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Weights directory: `best` of a training run, or what `python -m convert` wrote."""
    top: int = 5
    """How many classes to show for each image."""
    json: bool = False
    """Print a JSON array for machines instead of the table."""
    plot: Annotated[Path | None, tyro.conf.arg(metavar="FILE.png")] = None
    """Draw each image beside a bar chart of its classes."""

    def check(self) -> None:
        """Raise InputError for what cannot be."""
        if not self.images:
            raise InputError("no IMAGE was given")
        if self.top < 1:
            raise InputError(f"--top is {self.top}; accepted: 1 or more")
        if self.plot is not None:
            check_plot(self.plot, len(self.images))


@dataclasses.dataclass(frozen=True)
class Prediction:
    """A class and its probability, 0 to 1."""

    index: int
    name: str
    probability: float


def main(prog: str, argv: Sequence[str]) -> None:
    """Print the most probable classes of each image."""
    config = parse(Config, argv, prog)
    with reading_arguments(prog):
        config.check()
    for path in config.images:  # before the long work; whether they can be read shows as it goes
        if not path.exists():
            raise InputError(f"{path} cannot be read: there is no such file")
    metadata = load_metadata(config.weights)
    model, variables = load_weights(config.weights)
    if model.num_classes == 0:
        raise InputError(f"{config.weights} cannot classify: its model has num_classes 0")
    if jax.default_backend() == "cpu":
        keep_freed_memory()
    probabilities = predict_images(model, variables, config.images, metadata.preprocessing)
    names = metadata.class_names or tuple(map(str, range(model.num_classes)))
    results = [_best(row, names, config.top) for row in probabilities]
    if config.plot is not None:
        bars = [[(each.name, each.probability) for each in best] for best in results]
        plot_predictions(config.plot, config.images, bars)
    show = _json if config.json else _table
    print(show(config.images, results))


def predict_images(
    model: Network,
    variables: dict[str, Any],
    paths: Sequence[Path],
    preprocessing: Preprocessing,
    batch_size: int = 32,
) -> np.ndarray:
    """Classify image files, a batch at a time so that memory stays bounded.

    Args:
      model: a classifier.
      variables: its variables.
      paths: image files, at least one.
      preprocessing: what the weights expect.
      batch_size: most images to hold at once.

    Returns:
      Probabilities [image, class], float32.

    Raises:
      InputError: an image cannot be read, or gives values that are not finite.
    """
    if not model.folded:
        model, variables = fold_batch_norm(model, variables)

    infer = jit_inference(model, variables)
    size, side = min(batch_size, len(paths)), preprocessing.image_size
    rows = []
    for start in range(0, len(paths), size):
        chunk = paths[start : start + size]
        images = np.zeros((size, side, side, 3), np.float32)  # the last batch is filled with zeros
        for i, path in enumerate(chunk):
            images[i] = preprocessing(open_image(path))
        rows.append(np.asarray(jax.nn.softmax(infer(images)))[: len(chunk)])
    probabilities = np.concatenate(rows)
    for path, finite in zip(paths, np.isfinite(probabilities).all(1), strict=True):
        if not finite:
            raise InputError(f"{path} gives values that are not finite: check the weights")
    return probabilities


def _best(probabilities: np.ndarray, names: Sequence[str], top: int) -> list[Prediction]:
    order = np.argsort(-probabilities, kind="stable")[:top]
    return [Prediction(int(i), names[i], float(probabilities[i])) for i in order]


def _json(paths: Sequence[Path], results: Sequence[Sequence[Prediction]]) -> str:
    array = [
        {
            "image": str(path),
            "predictions": [
                {"index": each.index, "class": each.name, "probability": each.probability}
                for each in best
            ],
        }
        for path, best in zip(paths, results, strict=True)
    ]
    return json.dumps(array, indent=2)


def _table(paths: Sequence[Path], results: Sequence[Sequence[Prediction]]) -> str:
    rows: list[tuple[str, ...] | str] = [("image", "class", "probability")]
    for path, best in zip(paths, results, strict=True):
        images = (str(path), *[""] * (len(best) - 1))
        rows.append(RULE)
        rows += [
            (image, each.name, f"{each.probability:.2%}")
            for image, each in zip(images, best, strict=True)
        ]
    return format_table(rows, right=(2,))
