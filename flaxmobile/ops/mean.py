"""The mean over an image or under a window: average pooling, and squeeze-excite's squeeze."""

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from flaxmobile.ops.dispatch import Forms, apply_form, is_native
from flaxmobile.ops.window import Pair, Window


def global_mean(x: Array) -> Array:
    """Average each channel of each image; differentiable in reverse mode only.

    On the CPU, in inference, this is a product with a row of ones. XLA would fuse the producer of
    the image into the reduction, and recompute it where the image is used a second time: the 25
    taps of MobileNetV3's depthwise convolutions, in a loop that is not vectorized. That was a fifth
    of its inference time. In training the image is normalized first, so there is nothing to fuse.

    Args:
      x: images [n, h, w, c].

    Returns:
      [n, c] in float32 or wider.
    """
    mean: Array = apply_form(Forms(cpu=_reduce, accelerator=_reduce, inference=_multiply), None, x)
    return mean


def window_mean(size: Pair, window: Window, x: Array, count_padding: bool = True) -> Array:
    """Average each channel under a window; the sum is in float32 or wider.

    Args:
      size: (height, width) of the window.
      window: strides, padding and dilation.
      x: images [n, h, w, c].
      count_padding: divide by the window's area, otherwise by its number of pixels in the image.

    Returns:
      [n, h', w', c] in x's dtype.
    """
    wide = jnp.promote_types(x.dtype, jnp.float32)
    if count_padding and is_native():  # converters know this mean only as a pad before a plain mean
        x = jnp.pad(x, [(0, 0), *window.padding, (0, 0)])
        window = window._replace(padding=((0, 0), (0, 0)))
    total = _window_sum(size, window, x.astype(wide))
    if count_padding:
        return (total / (size[0] * size[1])).astype(x.dtype)
    count = _window_sum(size, window, jnp.ones((1, *x.shape[1:3], 1), wide))
    return (total / count).astype(x.dtype)


def _window_sum(size: Pair, window: Window, x: Array) -> Array:
    return lax.reduce_window(
        x,
        np.zeros((), x.dtype),
        lax.add,
        (1, *size, 1),
        (1, *window.strides, 1),
        ((0, 0), *window.padding, (0, 0)),
        window_dilation=(1, *window.dilation, 1),
    )


def _multiply(_: None, x: Array) -> Array:
    wide = jnp.promote_types(x.dtype, jnp.float32)
    images, channels, pixels = x.shape[0], x.shape[-1], x.shape[1] * x.shape[2]
    ones = jnp.ones((images, 1, pixels), wide)
    total = ones @ x.astype(wide).reshape(images, pixels, channels)
    return total[:, 0] / pixels


def _reduce(_: None, x: Array) -> Array:
    return x.mean((1, 2), dtype=jnp.promote_types(x.dtype, jnp.float32))
