"""Arrays inside `jax.shard_map`: of one value on all devices, or varying over axes of the mesh."""

from typing import Any

import jax
from jax import lax


def varying_axes(x: Any) -> frozenset[Any]:
    """Axes of the mesh over which an array varies."""
    axes: frozenset[Any] = jax.typeof(x).manual_axis_type.varying
    return axes


def alike(*trees: Any) -> tuple[Any, ...]:
    """Have all arrays vary over the same axes of the mesh.

    What JAX does for the operands of its own operations, and a gradient rule of ours needs done: a
    kernel that all devices share then gets the sum of their gradients. Outside of `jax.shard_map`
    nothing varies.
    """
    leaves, structure = jax.tree.flatten(trees)
    varying = [varying_axes(leaf) for leaf in leaves]
    everything = frozenset().union(*varying)

    def vary(leaf: Any, already: frozenset[Any]) -> Any:
        missing = tuple(sorted(everything - already))
        return lax.pcast(leaf, missing, to="varying") if missing else leaf

    out: tuple[Any, ...] = jax.tree.unflatten(structure, map(vary, leaves, varying))
    return out
