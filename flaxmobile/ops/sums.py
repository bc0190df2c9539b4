"""Sums over the pixels of a map, which batch normalization needs in each pass.

Both sums of each channel are memory-bound, and XLA's CPU backend reads the map once for each. Here
one pass over a large map gives both: MobileNetV2's training step runs 6 percent faster.
"""

from functools import reduce

import jax
import jax.numpy as jnp
from jax import Array, lax

from flaxmobile.ops.dispatch import by_platform
from flaxmobile.ops.materialize import make_opaque

_MOST_PIXELS = 8
"""Most pixels that are summed in registers before a partial sum is stored."""

_LARGE_MAP = 2048
"""Fewest pixels, 45 × 45, at which one pass fewer over the map is worth a longer compilation."""


def channel_sums(x: Array, y: Array) -> tuple[Array, Array]:
    """Σ x and Σ x · y over all but the channels of x and y [..., c]: two [c], float32 or wider."""
    large = x.ndim == 4 and x.shape[1] * x.shape[2] >= _LARGE_MAP
    sums: tuple[Array, Array] = (
        by_platform(x, y, cpu=_sum_in_one_pass, default=_sum) if large else _sum(x, y)
    )
    return sums


@jax.jit  # so that maps of the same shape are traced once
def _sum(x: Array, y: Array) -> tuple[Array, Array]:
    wide, axes = jnp.promote_types(x.dtype, jnp.float32), tuple(range(x.ndim - 1))
    x = x.astype(wide)
    return x.sum(axes), (x * y.astype(wide)).sum(axes)


@jax.jit
def _sum_in_one_pass(x: Array, y: Array) -> tuple[Array, Array]:
    """Sum groups of pixels in one vectorized loop, then the groups' sums.

    The loop stores both sums of a group, a quarter of the map. A variadic reduction would also read
    the map once, but XLA does not vectorize it.
    """
    wide = jnp.promote_types(x.dtype, jnp.float32)
    pixels, channels = x.size // x.shape[-1], x.shape[-1]
    group = max(n for n in range(1, _MOST_PIXELS + 1) if pixels % n == 0)
    shape = (pixels // group, group, 1, channels)
    x, y = x.astype(wide).reshape(shape), y.astype(wide).reshape(shape)
    column = lax.broadcasted_iota(jnp.int32, (1, 1, 2, 1), 2)
    terms = x * jnp.where(column == 0, jnp.ones((), wide), y)
    partial_sums = reduce(lax.add, lax.split(terms, [1] * group, axis=1))
    # Otherwise XLA would fuse both stages into one library reduction.
    x_sum, product_sum = make_opaque(partial_sums).sum((0, 1))
    return x_sum, product_sum


def cross_sums(x: Array, y: Array) -> Array:
    """Sum over the pixels of x [n, h, w, c] times y [n, h, w, d]: [c, d], float32 or wider.

    One matrix product: for a sum over three axes XLA's CPU backend would copy both maps.
    """
    wide = jnp.promote_types(x.dtype, jnp.float32)
    x, y = (a.astype(wide).reshape(-1, a.shape[-1]) for a in (x, y))
    return x.T @ y
