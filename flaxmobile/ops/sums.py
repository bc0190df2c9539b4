"""The sums over the pixels of a map that batch normalization needs in each pass.

The two of each channel are bound by reading the map from memory, and on a CPU XLA reads it once for
each. Here both are had in one pass over a large map: MobileNetV2's training step takes 6 percent
less time.
"""

from functools import reduce

import jax
import jax.numpy as jnp
from jax import Array, lax

from flaxmobile.ops.once import kept_apart

_MOST_PIXELS = 8
"""So many pixels are added up in registers before a sum is written."""

_LARGE_MAP = 2048
"""Pixels, 45 × 45, from which a map that is read once less is worth a longer compilation."""


@jax.jit  # so that maps of the same shape are traced once
def channel_sums(x: Array, y: Array) -> tuple[Array, Array]:
    """Σ x and Σ x · y over all but the channels of x and y [..., c]: two [c], float32 or wider."""
    large = x.ndim == 4 and x.shape[1] * x.shape[2] >= _LARGE_MAP
    return lax.platform_dependent(
        x, y, cpu=_in_one_pass if large else plain_sums, default=plain_sums
    )


def plain_sums(x: Array, y: Array) -> tuple[Array, Array]:
    """Compute `channel_sums` by one reduction for each."""
    wide, axes = jnp.promote_types(x.dtype, jnp.float32), tuple(range(x.ndim - 1))
    x = x.astype(wide)
    return x.sum(axes), (x * y.astype(wide)).sum(axes)


def _in_one_pass(x: Array, y: Array) -> tuple[Array, Array]:
    """Add up groups of pixels in one vectorized loop, and then the groups' sums.

    The loop writes both sums of a group, a quarter of the map. A variadic reduction would also read
    the map once, but XLA does not vectorize it.
    """
    wide = jnp.promote_types(x.dtype, jnp.float32)
    pixels, channels = x.size // x.shape[-1], x.shape[-1]
    group = max(n for n in range(1, _MOST_PIXELS + 1) if pixels % n == 0)
    shape = (pixels // group, group, 1, channels)
    x, y = x.astype(wide).reshape(shape), y.astype(wide).reshape(shape)
    which = lax.broadcasted_iota(jnp.int32, (1, 1, 2, 1), 2)
    terms = x * jnp.where(which == 0, jnp.ones((), wide), y)
    total = reduce(lax.add, lax.split(terms, [1] * group, axis=1))
    # XLA's library reduction would take the first sum too.
    of_x, of_product = kept_apart(total).sum((0, 1))
    return of_x, of_product


def cross_sums(x: Array, y: Array) -> Array:
    """Sum over the pixels of x [n, h, w, c] times y [n, h, w, d]: [c, d], float32 or wider.

    One product of matrices: for a sum over three axes XLA's CPU backend would copy both maps.
    """
    wide = jnp.promote_types(x.dtype, jnp.float32)
    x, y = (a.astype(wide).reshape(-1, a.shape[-1]) for a in (x, y))
    return x.T @ y
