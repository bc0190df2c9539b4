"""Resizing of feature maps: by the nearest pixel, and by bilinear interpolation."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax


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
    shape = (x.shape[0], height, width, x.shape[3])
    if x.shape[1:3] == (1, 1):
        return jnp.broadcast_to(x, shape)
    return jax.image.resize(x, shape, "bilinear", antialias=False)
