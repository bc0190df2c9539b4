"""Resizing of feature maps: by the nearest pixel, and by bilinear interpolation."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

INTERPOLATION = "odml.upsample_bilinear2d"
"""Name of the composite operation that LiteRT's converter turns into RESIZE_BILINEAR."""

_composite: ContextVar[bool] = ContextVar("composite_resizing", default=False)


@contextmanager
def composite_resizing(enabled: bool = True) -> Iterator[None]:
    """Trace `resize` as one composite operation, for converters: JAX cannot differentiate it."""
    token = _composite.set(enabled)
    try:
        yield
    finally:
        _composite.reset(token)


def enlarge(x: Array, height: int, width: int) -> Array:
    """Resize x [n, h, w, c] to [n, height, width, c] by the nearest pixel.

    Pixel i of n is pixel floor(i h / n) of h, PyTorch's "nearest". `jax.image.resize` takes the
    nearest of the centres, which is another pixel where n is not a multiple of h.
    """
    for axis, size in ((1, height), (2, width)):
        now = x.shape[axis]
        if size == now:
            continue
        if size in (2 * now - 1, 2 * now):  # no gather, whose gradient is a scatter
            x = lax.slice_in_dim(jnp.repeat(x, 2, axis), 0, size, axis=axis)
        else:
            x = jnp.take(x, np.arange(size) * now // size, axis, mode="clip")
    return x


def resize(x: Array, like: Array) -> Array:
    """Resize x [n, h, w, c] to the height and width of another array, by bilinear interpolation.

    Centres of pixels are half a pixel from the edges and nothing is blurred first, as in PyTorch
    with align_corners=False.
    """
    height, width = like.shape[1:3]
    if x.shape[1:3] == (height, width):
        return x
    if x.shape[1:3] == (1, 1):
        return jnp.broadcast_to(x, (x.shape[0], height, width, x.shape[3]))
    size = height, width

    def interpolate(x: Array, **_: Any) -> Array:
        return jax.image.resize(x, (x.shape[0], *size, x.shape[3]), "bilinear", antialias=False)

    if not _composite.get():
        return interpolate(x)
    resized: Array = lax.composite(interpolate, INTERPOLATION)(
        x, size=np.asarray(size), align_corners=False, is_nchw_op=False
    )
    return resized
