"""Pooling with the reference implementations' geometry."""

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array, lax

from flaxmobile.ops import Padding, Window, make_window, output_size


def max_pool(
    x: Array,
    size: int,
    stride: int = 1,
    padding: Padding = "symmetric",
    ceil_mode: bool = False,
) -> Array:
    """Take the largest value under a window.

    Args:
      x: images [n, h, w, c].
      size: side of the window.
      stride: of both axes.
      padding: see `flaxmobile.ops.make_window`; padded pixels never win.
      ceil_mode: keep a last window that only partly lies in the image, as in Caffe; it must begin
        inside the image or its left padding (PyTorch's rule).

    Returns:
      [n, h', w', c].
    """
    window = make_window(x.shape[1:3], (size, size), stride, padding)
    pads = _ceil_pads(x.shape[1:3], size, window) if ceil_mode else window.padding
    return nn.max_pool(x, (size, size), window.strides, pads)


def avg_pool(
    x: Array,
    size: int,
    stride: int = 1,
    padding: Padding = "symmetric",
    *,
    dilation: int = 1,
    count_padding: bool = True,
) -> Array:
    """Take the mean under a window.

    Args:
      x: images [n, h, w, c].
      size: side of the window.
      stride: of both axes.
      padding: see `flaxmobile.ops.make_window`.
      dilation: distance of two pixels under the window.
      count_padding: divide by the window's area also where it reaches over the edge (PyTorch's
        default), instead of by the number of pixels of the image (TensorFlow's).

    Returns:
      [n, h', w', c] in x's dtype; the sum is in float32 or wider.
    """
    window = make_window(x.shape[1:3], (size, size), stride, padding, dilation)
    wide = jnp.promote_types(x.dtype, jnp.float32)
    total = _window_sum(x.astype(wide), size, window)
    if count_padding:
        return (total / size**2).astype(x.dtype)
    count = _window_sum(jnp.ones((1, *x.shape[1:3], 1), wide), size, window)
    return (total / count).astype(x.dtype)


def _window_sum(x: Array, size: int, window: Window) -> Array:
    return lax.reduce_window(
        x,
        np.zeros((), x.dtype),
        lax.add,
        (1, size, size, 1),
        (1, *window.strides, 1),
        ((0, 0), *window.padding, (0, 0)),
        window_dilation=(1, *window.dilation, 1),
    )


def _ceil_pads(image: Sequence[int], size: int, window: Window) -> tuple[tuple[int, int], ...]:
    pads = []
    for length, stride, (low, high), whole in zip(
        image, window.strides, window.padding, output_size(image, (size, size), window), strict=True
    ):
        count = math.ceil((length + low + high - size) / stride) + 1
        if (count - 1) * stride >= length + low:
            count -= 1
        reach = (max(count, whole) - 1) * stride + size
        pads.append((low, max(high, reach - length - low)))
    return tuple(pads)
