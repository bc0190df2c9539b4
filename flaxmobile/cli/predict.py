"""`flaxmobile predict`: classify image files or their pixels, or find objects or faces."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro

from convert.published.loading import open_any_weights
from flaxmobile.allocator import keep_freed_memory
from flaxmobile.cli.answers import Answer, in_csv, in_json
from flaxmobile.cli.boxes import (
    describe_box,
    find_boxes,
    is_detector,
    plot_boxes,
    table_of_boxes,
)
from flaxmobile.cli.heatmaps import draw_heatmaps
from flaxmobile.cli.plot import Overlay, plot_predictions
from flaxmobile.command.flags import PICTURES, check_writable, parse, reading_arguments
from flaxmobile.errors import InputError, check_value
from flaxmobile.layers import Model, Network
from flaxmobile.outputs import default_output
from flaxmobile.prediction import predict_images, segment_images
from flaxmobile.segmentation import Segmenter
from flaxmobile.table import RULE, format_table
from flaxmobile.trees import Tree
from flaxmobile.weights import Metadata
from train.data.files import LeftOut, image_files

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
    """Image files (RGB, grey, 16 bit, palette, with transparency or CMYK), and folders of them."""
    weights: Annotated[str, tyro.conf.arg(metavar="DIR|PUBLISHED")]
    """Weights directory: `best` of a training run, or what `python -m convert` wrote; or published
    weights such as torchvision:mobilenet_v2; `flaxmobile list --pretrained` shows them."""
    top: int = 5
    """Number of classes to show for each image."""
    threshold: float = 0.5
    """Least score of the boxes that a detector shows, 0 to 1."""
    json: bool = False
    """Print a JSON array for machines instead of the table."""
    csv: bool = False
    """Print CSV instead of the table, a row for each class or box."""
    plot: Annotated[Path | None, tyro.conf.arg(metavar="FILE.png")] = None
    """Draw each image beside a bar chart of its classes, under the mask of a segmenter, or with the
    boxes of a detector."""
    heatmap: bool = False
    """In the picture, colour the places that speak for a classifier's best class (Grad-CAM)."""

    def check(self) -> None:
        """Raise InputError for values that are not accepted."""
        if not self.images:
            raise InputError("no IMAGE was given")
        if self.top < 1:
            raise InputError(f"--top is {self.top}; accepted: 1 or more")
        check_value("--threshold", self.threshold, 0 <= self.threshold <= 1, "0 to 1")
        if self.json and self.csv:
            raise InputError("--json and --csv were given; accepted: one of them")
        if self.heatmap and self.plot is None:
            raise InputError("--heatmap is drawn into a picture: --plot FILE.png")
        if self.plot is not None:
            check_writable("--plot", self.plot, PICTURES)

    def files(self) -> list[Path]:
        """List the image files, those below folders too.

        Raises:
          InputError: one that does not exist, or a folder without images.
        """
        files: list[Path] = []
        for path in self.images:  # before the long work; images that cannot be read fail later
            if not path.exists():
                raise InputError(f"{path} cannot be read: there is no such file")
            files += _below(path) if path.is_dir() else [path]
        return files


@dataclasses.dataclass(frozen=True)
class Prediction:
    """A class and its answer: a probability or a share, 0 to 1, or another number."""

    index: int
    name: str
    answer: float


def _below(folder: Path) -> list[Path]:
    left_out = LeftOut()
    files = [Path(file) for file in image_files(folder, left_out)]
    if not files:
        raise InputError(f"{folder} holds no images ({left_out.describe() or 'it is empty'})")
    return files


def main(prog: str, argv: Sequence[str]) -> None:
    """Print the classes of each image, the most probable or the largest first."""
    config = parse(Config, argv, prog)
    with reading_arguments(prog):
        config.check()
    paths = config.files()
    with reading_arguments(prog):
        if config.plot is not None and len(paths) > _MOST_PICTURES:
            raise InputError(
                f"--plot shows at most {_MOST_PICTURES} images, {len(paths)} were given"
            )
    weights = open_any_weights(config.weights)
    model, variables = weights.load()
    if config.heatmap and (is_detector(model) or not isinstance(model, Network)):
        raise InputError(f"--heatmap is for classifiers, and {config.weights} holds none")
    if is_detector(model):
        show_boxes(config, paths, model, variables, weights.metadata)
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
        for mask in segment_images(model, variables, paths, metadata.preprocessing):
            shares = np.bincount(mask.ravel(), minlength=len(names)) / mask.size
            results.append([each for each in _best(shares, names, config.top) if each.answer])
            overlays.append(Overlay.of(mask, [each.index for each in results[-1]]))
    else:
        answers = predict_images(model, variables, paths, metadata.preprocessing, output)
        results = [_best(row, names, config.top) for row in answers]
    if config.plot is not None:
        bars = [[(each.name, each.answer) for each in best] for best in results]
        heatmaps = []
        if config.heatmap:
            classes = [best[0].index for best in results]
            preprocessing = metadata.preprocessing
            heatmaps = draw_heatmaps(model, variables, paths, classes, preprocessing)
        plot_predictions(config.plot, paths, bars, _FORMATS[output], overlays, heatmaps)
    described = [[_describe(each, output) for each in best] for best in results]
    _print(config, paths, described, _table(paths, results, output))


def show_boxes(
    config: Config, paths: Sequence[Path], model: Model, variables: Tree, metadata: Metadata
) -> None:
    """Print, and draw, what a detector finds in each image."""
    results = [find_boxes(model, variables, path, metadata, config.threshold) for path in paths]
    if config.plot is not None:
        plot_boxes(config.plot, paths, results)
    described = [[describe_box(each) for each in found] for found in results]
    _print(config, paths, described, table_of_boxes(paths, results))


def _print(
    config: Config, paths: Sequence[Path], answers: Sequence[Sequence[Answer]], table: str
) -> None:
    if config.json:
        print(in_json(paths, answers))
    else:
        print(in_csv(paths, answers) if config.csv else table)


def _best(answers: np.ndarray, names: Sequence[str], top: int) -> list[Prediction]:
    order = np.argsort(-answers, kind="stable")[:top]
    return [Prediction(int(i), names[i], float(answers[i])) for i in order]


def _describe(prediction: Prediction, output: str) -> dict[str, Any]:
    return {
        "index": prediction.index,
        "class": prediction.name,
        _kind(output): prediction.answer,
    }


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
