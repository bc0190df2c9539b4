"""`flaxmobile plot-filters`: the first and the depthwise kernels of a network as a picture."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import tyro

from convert.published.loading import open_any_weights
from flaxmobile.cli.plot import pictures
from flaxmobile.command.flags import PICTURES, check_writable, parse, reading_arguments
from flaxmobile.errors import InputError
from flaxmobile.folding import fold_batch_norm
from flaxmobile.layers import Model
from flaxmobile.summary import summarize
from flaxmobile.table import RULE, format_table
from flaxmobile.trees import Tree

_DEAD = 0.01
"""A depthwise filter is dead whose largest weight is below this share of its layer's largest."""
_A_ROW = 48
_ROWS = 3


@dataclasses.dataclass(frozen=True)
class Config:
    """Draw the first layer and the depthwise filters, and count those that are dead.

    Filters are drawn with the scale of their normalization. One is dead if none of its weights
    reaches 1 percent of the layer's largest: training has turned its channel off.
    """

    weights: Annotated[str, tyro.conf.arg(metavar="DIR|PUBLISHED")]
    """Weights directory, or published weights such as torchvision:mobilenet_v2."""
    output: Annotated[Path, tyro.conf.arg(metavar="FILE.png")] = Path("filters.png")
    """Picture to write: .png, .pdf or .svg."""


class Layer(NamedTuple):
    """Filters of a layer.

    Attributes:
      path: where its parameters lie.
      kernel: [h, w, c, filter], c being 1 where it is depthwise.
    """

    path: str
    kernel: np.ndarray

    @property
    def dead(self) -> np.ndarray:
        """Whether each filter is dead."""
        largest = np.abs(self.kernel).max((0, 1, 2))
        return largest < _DEAD * largest.max()


def main(prog: str, argv: Sequence[str]) -> None:
    """Draw the picture and print the counts."""
    config = parse(Config, argv, prog)
    with reading_arguments(prog):
        check_writable("--output", config.output, PICTURES)
    model, variables = open_any_weights(config.weights).load()
    layers = find_filters(model, variables)
    if not layers:
        raise InputError(
            f"{config.weights} has neither a first layer of kernels nor depthwise ones"
        )
    plot_filters(config.output, layers)
    print(_table(layers))


def find_filters(model: Model, variables: Tree) -> list[Layer]:
    """Select the first convolution, and those that are depthwise, in the order of execution."""
    rows = [row for row in summarize(model, model.min_image_size).rows if "conv" in row.path]
    if not model.folded:
        model, variables = fold_batch_norm(model, variables)
    found = []
    for number, row in enumerate(rows):
        if number and not row.kind.startswith("depthwise"):
            continue
        params: Any = variables["params"]
        for name in row.path.split("/"):
            params = params[name]
        found.append(
            Layer(row.path.removesuffix("/conv"), np.asarray(params["kernel"], np.float32))
        )
    return found


def plot_filters(path: Path, layers: Sequence[Layer]) -> None:
    """Draw the filters of each layer in rows; the file appears complete or not at all.

    Negative weights are blue and positive ones red, from the layer's largest to its smallest;
    filters of three channels are images.
    """
    with pictures(path, len(layers), (9.0, 0.95)) as rows:
        for axes, layer in zip(rows[:, 0], layers, strict=True):
            shown = layer.kernel[..., : _A_ROW * _ROWS]
            largest = float(np.abs(layer.kernel).max()) or 1.0
            tiles = _tile(shown / largest)
            if tiles.shape[2] == 3:
                axes.imshow((tiles + 1) / 2, interpolation="nearest")
            else:
                axes.imshow(tiles[..., 0], "RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
            axes.set_axis_off()
            axes.set_title(_describe(layer, shown.shape[-1]), loc="left", fontsize=8)


def _tile(kernels: np.ndarray) -> np.ndarray:
    """Lay kernels [h, w, c, filter] of -1 to 1 out in rows, with gaps that are drawn white."""
    height, width, channels, count = kernels.shape
    rows = -(-count // _A_ROW)
    white = 1.0 if channels == 3 else 0.0
    tiles = np.full((rows * (height + 1), _A_ROW * (width + 1), channels), white, np.float32)
    for number in range(count):
        top, left = number // _A_ROW * (height + 1), number % _A_ROW * (width + 1)
        tiles[top : top + height, left : left + width] = kernels[..., number]
    return tiles


def _describe(layer: Layer, shown: int) -> str:
    height, width, _, count = layer.kernel.shape
    dead = int(layer.dead.sum())
    first = f", the first {shown}" if shown < count else ""
    return f"{layer.path}: {count} filters of {height}×{width}, {dead} dead{first}"


def _table(layers: Sequence[Layer]) -> str:
    rows: list[tuple[str, ...] | str] = [("layer", "filters", "size", "dead"), RULE]
    for layer in layers:
        height, width, _, count = layer.kernel.shape
        rows.append((layer.path, str(count), f"{height}×{width}", str(layer.dead.sum())))
    total = sum(layer.kernel.shape[-1] for layer in layers)
    rows += [RULE, ("total", str(total), "", str(sum(layer.dead.sum() for layer in layers)))]
    return format_table(rows, right=(1, 3))
