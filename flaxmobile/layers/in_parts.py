"""Memory-efficient inference of inverted residuals: section 5.1 of the MobileNet V2 paper."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from flaxmobile.ops import pointwise_conv


def bottleneck_in_parts(block: Any, x: Array, hidden_channels: int, split: int) -> Array:
    """Expand, filter and project x, one part of the expanded channels at a time; for inference.

    The parts are a loop of XLA that slices the kernels. If it were unrolled, or if the slices were
    stacked before it, it would need more memory than it saves.

    Args:
      block: a bound `InvertedResidual` that has an expansion.
      x: its input [n, h, w, c].
      hidden_channels: number of expanded channels.
      split: number of parts, a divisor of `hidden_channels`.

    Returns:
      `block.bottleneck(x, hidden_channels, train=False)` to rounding,
      [n, h / stride, w / stride, features].
    """
    part = hidden_channels // split
    expand = block.unit(part, activation=block.activation, parent=None)
    depthwise = block.depthwise(part, parent=None)
    project = block.unit(block.features, parent=None)
    variables = {
        unit: {kind: tree[unit] for kind, tree in block.variables.items() if unit in tree}
        for unit in ("expand", "depthwise", "project")
    }
    last = variables["project"]["params"]["conv"]

    def add_part(number: Array, total: Array) -> Array:
        def slice_part(tree: Any, axis: int = -1) -> Any:
            start = number * part
            return jax.tree.map(
                lambda leaf: lax.dynamic_slice_in_dim(leaf, start, part, axis), tree
            )

        expanded = expand.apply(slice_part(variables["expand"]), x)
        y = depthwise.apply(slice_part(variables["depthwise"]), expanded)
        if block.shortcut == "expansion" and block.stride == 1:
            y += expanded
        y = pointwise_conv(y, slice_part(last["kernel"], axis=2).astype(y.dtype))
        return total + y.astype(total.dtype)

    rows, columns = (-(-side // block.stride) for side in x.shape[1:3])
    shape = (x.shape[0], rows, columns, block.features)
    zeros = jnp.zeros(shape, jnp.promote_types(x.dtype, jnp.float32))
    y = lax.fori_loop(0, split, add_part, zeros)
    if project.folded:
        y = (y + last["bias"].reshape(1, 1, 1, -1)).astype(project.dtype)
    else:
        norm = {kind: tree["norm"] for kind, tree in variables["project"].items()}
        y = project.make_norm(parent=None).apply(norm, y)
    return y if block.linear else block.activation(y)
