"""Parameters and multiply-adds of a network, layer by layer, without running it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from flaxmobile.layers import BatchNorm, Conv, Model
from flaxmobile.layers.parameters import trace_init
from flaxmobile.registry import create_model
from flaxmobile.sizes import ImageSize, as_height_and_width, as_image_size, size_text
from flaxmobile.table import RULE, format_table


class Row(NamedTuple):
    """One layer.

    Attributes:
      path: where its parameters lie, such as stage3_block2/expand/conv.
      kind: "conv 3x3", "conv 1x1", "depthwise 3x3", "norm" or "dense".
      output: shape of its output without the batch, (h, w, c) or (c,).
      params: trainable parameters.
      macs: multiply-adds for one image; 0 for auxiliary classifiers, which run in training only.
    """

    path: str
    kind: str
    output: tuple[int, ...]
    params: int
    macs: int


@dataclass(frozen=True)
class Summary:
    """Counts for one image at inference; `print` shows them as a table.

    Attributes:
      image_size: side of the input in pixels, or (height, width).
      rows: one per convolution, normalization and dense layer, in the order of execution.
    """

    image_size: ImageSize
    rows: tuple[Row, ...]

    @property
    def params(self) -> int:
        """Trainable parameters: scale and bias of normalizations, not their running statistics."""
        return sum(row.params for row in self.rows)

    @property
    def macs(self) -> int:
        """Multiply-adds of convolutions and dense layers."""
        return sum(row.macs for row in self.rows)

    @property
    def pointwise_share(self) -> float:
        """Share of the multiply-adds that 1×1 convolutions do, 0 to 1."""
        return sum(row.macs for row in self.rows if row.kind == "conv 1x1") / max(1, self.macs)

    def __str__(self) -> str:
        """Lay the rows out as a table of 80 columns, each layer under its block."""
        head = ("layer", "kind", "output", "params", "mult-adds", "share")
        total = ("total", "", "", f"{self.params:,}", f"{self.macs:,}", "100.0%")
        share = (
            f"1×1 convolutions do {self.pointwise_share:.1%} of the multiply-adds at "
            f"{size_text(self.image_size)}"
        )
        rows = [head, RULE, *self._lines(), RULE, total]
        return format_table(rows, right=range(2, 6)) + "\n" + share

    def _lines(self) -> Iterator[tuple[str, ...]]:
        """Give a line to each layer, and before it one to each block or unit without a line."""
        shown: set[tuple[str, ...]] = set()
        for row in self.rows:
            path = tuple(row.path.removesuffix("/conv").split("/"))  # a unit is its convolution
            outer = [path[:depth] for depth in range(1, len(path)) if path[:depth] not in shown]
            shown |= {path, *outer}
            yield from ((_indented(each), *[""] * 5) for each in outer)
            shape, macs = "×".join(map(str, row.output)), f"{row.macs:,}" if row.macs else ""
            share = f"{row.macs / self.macs:.1%}" if row.macs else ""
            yield _indented(path), row.kind, shape, f"{row.params:,}", macs, share

    def to_json(self) -> dict[str, Any]:
        """Plain values: image_size, params, macs, pointwise_share, and the rows as objects."""
        return {
            "image_size": self.image_size,
            "params": self.params,
            "macs": self.macs,
            "pointwise_share": self.pointwise_share,
            "rows": [row._asdict() for row in self.rows],
        }


def _indented(path: tuple[str, ...]) -> str:
    return "  " * (len(path) - 1) + path[-1]


def summarize(model: Model | str, image_size: ImageSize = 224) -> Summary:
    """Count parameters and multiply-adds of a network: classifier, backbone, segmenter, detector.

    Nothing is computed or allocated: the network is only traced.

    Args:
      model: from `create_model` and its like, or a name of `list_models()`.
      image_size: side of the input in pixels, or (height, width).

    Raises:
      InputError: no such network, or the image is smaller than the network's minimum.
    """
    if isinstance(model, str):
        model = create_model(model)
    height, width = as_height_and_width(image_size)
    rows: list[Row] = []

    def record(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        output = call(*args, **kwargs)
        module = context.module
        if context.method_name == "__call__" and isinstance(module, Conv | BatchNorm | nn.Dense):
            shapes = jax.tree.map(jnp.shape, dict(module.variables.get("params", {})))
            rows.append(_row("/".join(module.path), shapes, args[0].shape, output.shape))
        return output

    model = model.countable()
    images = jax.ShapeDtypeStruct((1, height, width, model.in_channels), jnp.float32)
    with nn.intercept_methods(record):
        _, variables = trace_init(model, images)
        made = executed = list(rows)
        if model.aux_weight:  # auxiliary layers have no multiply-adds
            rows.clear()
            jax.eval_shape(model.apply, variables, images)
            executed = rows
    paths = {row.path for row in executed}
    return Summary(
        as_image_size(image_size),
        tuple(row if row.path in paths else row._replace(macs=0) for row in made),
    )


def _row(
    path: str, shapes: dict[str, Any], x_shape: tuple[int, ...], output: tuple[int, ...]
) -> Row:
    params = sum(math.prod(shape) for shape in shapes.values())
    kernel = shapes.get("kernel")
    if kernel is None:
        return Row(path, "norm", output[1:], params, 0)
    macs = math.prod(output[1:-1]) * math.prod(kernel)
    if len(kernel) == 2:
        return Row(path, "dense", output[1:], params, macs)
    grouped = "depthwise" if kernel[2] == 1 < x_shape[-1] else "conv"
    return Row(path, f"{grouped} {kernel[0]}x{kernel[1]}", output[1:], params, macs)
