"""Sharding of operations with a custom VJP, for which JAX needs more information."""

from collections.abc import Callable
from typing import Any

import jax
from jax import Array, lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from flaxmobile.compat import varying_axes


def unify_varying_axes(*trees: Any) -> tuple[Any, ...]:
    """Cast all arrays to vary over the same axes of the mesh inside `jax.shard_map`.

    JAX does so for the operands of its own operations. With a custom VJP it must be done before:
    the gradient of a kernel that all devices share is then summed over them. Outside of
    `jax.shard_map` nothing varies.
    """
    leaves, structure = jax.tree.flatten(trees)
    varying = [varying_axes(leaf) for leaf in leaves]
    union = frozenset().union(*varying)

    def cast(leaf: Any, axes: frozenset[Any]) -> Any:
        missing = tuple(sorted(union - axes))
        return lax.pcast(leaf, missing, to="varying") if missing else leaf

    out: tuple[Any, ...] = jax.tree.unflatten(structure, map(cast, leaves, varying))
    return out


def partition_by_compiler(
    function: Callable[..., Any], x: Array, *others: Any, statistics: int = 0
) -> Any:
    """Call function(x, *others), and let the compiler partition it like x.

    The compiler does so anyway unless the mesh has explicit axes. Then JAX needs the sharding of
    every operation's result; this function gives it for all of them at once.

    Args:
      function: returns an array whose first axis is x's; or a tuple of one and of statistics.
      x: images, or another array whose first axis is the batch.
      *others: arrays.
      statistics: number of further results, which are replicated.
    """
    sharding = jax.typeof(x).sharding
    if AxisType.Explicit not in sharding.mesh.axis_types:
        return function(x, *others)
    batch, replicated = (
        NamedSharding(sharding.mesh, PartitionSpec(axis)) for axis in (sharding.spec[0], None)
    )
    out = (batch, *[replicated] * statistics) if statistics else batch
    return jax.sharding.auto_axes(function, out_sharding=out)(x, *others)
