"""Pooling with the reference implementations' geometry."""

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array

from flaxmobile.layers.quantization import keep_steps
from flaxmobile.ops import Padding, Window, make_window, output_size, window_max, window_mean
from flaxmobile.ops.window import Pair


def max_pool(
    x: Array,
    size: int,
    stride: int = 1,
    padding: Padding = "symmetric",
    ceil_mode: bool = False,
) -> Array:
    """Take the largest value under a window; differentiable in reverse mode only.

    Args:
      x: images [n, h, w, c].
      size: side of the window.
      stride: of both axes.
      padding: see `flaxmobile.ops.make_window`; padded pixels never win.
      ceil_mode: keep a last window that lies only partly in the image, as in Caffe; it must start
        inside the image or its left padding (PyTorch's rule).

    Returns:
      [n, h', w', c].
    """
    spare = stride - 1 if ceil_mode else 0  # pixels that the last window may lack
    reach = [side + spare for side in x.shape[1:3]]
    window = make_window(reach, (size, size), stride, padding)
    pads = _ceil_pads(x.shape[1:3], size, window) if ceil_mode else window.padding
    return keep_steps(window_max((size, size), window._replace(padding=pads), x), x)


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
      dilation: distance between two pixels under the window.
      count_padding: divide by the window's area (PyTorch's default); otherwise by its number of
        pixels inside the image (TensorFlow's).

    Returns:
      [n, h', w', c] in x's dtype; the sum is in float32 or wider.
    """
    window = make_window(x.shape[1:3], (size, size), stride, padding, dilation)
    return window_mean((size, size), window, x, count_padding)


def adaptive_avg_pool(x: Array, size: int) -> Array:
    """Average an image of any size over size × size bins, as PyTorch does.

    Bin i of n over a side of s pixels reaches from floor(i s / n) to ceil((i + 1) s / n). Bins
    overlap where n does not divide s, and share pixels where s is smaller than n.

    Returns:
      [n, size, size, c] in x's dtype; the sum is in float32 or wider.
    """
    wide = jnp.promote_types(x.dtype, jnp.float32)
    rows, columns = (jnp.asarray(_bins(length, size), wide) for length in x.shape[1:3])
    means = jnp.einsum("ih,nhwc,jw->nijc", rows, x.astype(wide), columns, precision="highest")
    return means.astype(x.dtype)


def _bins(length: int, count: int) -> np.ndarray:
    """Weight of each pixel in each bin, [count, length]."""
    pixel = np.arange(length)
    begin = np.arange(count)[:, None] * length // count
    end = -(-(np.arange(count)[:, None] + 1) * length // count)
    inside = (begin <= pixel) & (pixel < end)
    return inside / inside.sum(axis=1, keepdims=True)


def _ceil_pads(image: Sequence[int], size: int, window: Window) -> tuple[Pair, Pair]:
    pads = []
    for length, stride, (low, high), whole in zip(
        image, window.strides, window.padding, output_size(image, (size, size), window), strict=True
    ):
        count = math.ceil((length + low + high - size) / stride) + 1
        if (count - 1) * stride >= length + low:
            count -= 1
        reach = (max(count, whole) - 1) * stride + size
        pads.append((low, max(high, reach - length - low)))
    rows, columns = pads
    return rows, columns
