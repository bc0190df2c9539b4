"""Arrays on several devices: what JAX is to be told where a computation has rules of our own."""

from collections.abc import Callable
from typing import Any

import jax
from jax import Array, lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from flaxmobile.compat import varying_axes


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


def shared_out(function: Callable[..., Any], x: Array, *others: Any, statistics: int = 0) -> Any:
    """Call function(x, *others), of which the compiler is to share out what x's devices compute.

    It does so anyway, unless axes of the mesh are explicit: then each operation must be told how
    its result is spread, here that of all of them.

    Args:
      function: gives arrays with an entry for each of x's; or a tuple of one and of statistics.
      x: images, or anything else whose first axis is the batch.
      *others: arrays.
      statistics: how many there are; all devices get the same.
    """
    sharding = jax.typeof(x).sharding
    if AxisType.Explicit not in sharding.mesh.axis_types:
        return function(x, *others)
    batch, same = (
        NamedSharding(sharding.mesh, PartitionSpec(axis)) for axis in (sharding.spec[0], None)
    )
    out = (batch, *[same] * statistics) if statistics else batch
    return jax.sharding.auto_axes(function, out_sharding=out)(x, *others)
