"""The largest value under a window, and its gradient.

XLA's CPU backend computes the gradient by a reduction over windows that carries positions, and a
scatter. That is 12 to 20 times slower than here, and took a sixth of the training steps of Xception
and ShuffleNet V2. Here each pixel sums dy over the windows in which it is the largest. The maximum
of shifted slices is 1.4 to 7 times faster than the reduction over windows.
"""

from functools import partial, reduce

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from flaxmobile.ops.dispatch import Forms, apply_form
from flaxmobile.ops.materialize import materialize_on_cpu
from flaxmobile.ops.shifts import gather_gradient, shifted_slice, taps
from flaxmobile.ops.window import Pair, Window, output_size

Geometry = tuple[Pair, Window]
"""(height, width) of the window, and its strides and padding."""

_LEAST_CHANNELS = 64
"""Below 64 channels slices beat a gather: with a gather ShuffleNet V2 (24 channels) is 7 percent
slower."""


def window_max(size: Pair, window: Window, x: Array) -> Array:
    """Take the largest value of each channel under a window; padded pixels never win.

    Differentiable in reverse mode only: the first of equal values, row by row, gets the gradient,
    as in PyTorch.

    Args:
      size: (height, width) of the window.
      window: strides and padding; a dilation is not supported.
      x: images [n, h, w, c].

    Returns:
      [n, h', w', c].
    """
    forms = Forms(cpu=shifted_maximum, accelerator=native_maximum, inference=clamped_maximum)
    y: Array = apply_form(forms, (size, window), x)
    return y


def native_maximum(geometry: Geometry, x: Array) -> Array:
    """XLA's own reduction over windows."""
    size, window = geometry
    return lax.reduce_window(
        x,
        -np.asarray(np.inf, x.dtype),
        lax.max,
        (1, *size, 1),
        (1, *window.strides, 1),
        ((0, 0), *window.padding, (0, 0)),
    )


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def shifted_maximum(geometry: Geometry, x: Array) -> Array:
    """Take the largest of the padded image's shifted slices."""
    size, window = geometry
    output = output_size(x.shape[1:3], size, window)
    padded = _pad(x, window)
    return reduce(
        jnp.maximum, (shifted_slice(padded, tap, output, window.strides) for tap in taps(size))
    )


def _forward(geometry: Geometry, x: Array) -> tuple[Array, tuple[Array, Array]]:
    y = shifted_maximum(geometry, x)
    return y, (x, y)


def _backward(geometry: Geometry, residuals: tuple[Array, Array], dy: Array) -> tuple[Array]:
    return (_gradient(geometry, *residuals, dy),)


shifted_maximum.defvjp(_forward, _backward)


def clamped_maximum(geometry: Geometry, x: Array) -> Array:
    """Take the largest of shifts whose coordinates are clamped to the image; not for training.

    Beyond the image a window reads the nearest pixel, which it contains anyway. So the output of a
    product and its bias fuse into the maximum, and no padded copy is materialized: inference of
    Xception runs 2 to 3 percent faster. In training, where the image is used again, XLA would
    materialize the pixels of each tap.
    """
    size, window = geometry
    # A window may lie completely outside of the image.
    outside = any(max(pads) >= side for pads, side in zip(window.padding, size, strict=True))
    if outside or x.shape[-1] < _LEAST_CHANNELS:
        return shifted_maximum(geometry, x)
    output = output_size(x.shape[1:3], size, window)
    shifts = (_gather_tap(x, tap, output, window) for tap in taps(size))
    return materialize_on_cpu(reduce(jnp.maximum, shifts))


def _gather_tap(x: Array, tap: Pair, size: Pair, window: Window) -> Array:
    """Gather the pixel at a tap of each window, [n, *size, c], nearest pixels outside the image."""
    rows, columns = (
        np.clip(np.arange(count) * stride + start - before, 0, side - 1)
        for count, stride, start, (before, _), side in zip(
            size, window.strides, tap, window.padding, x.shape[1:3], strict=True
        )
    )
    pixels = lax.GatherDimensionNumbers((0, 3), (1, 2), (1, 2))
    indices = jnp.asarray(np.stack(np.meshgrid(rows, columns, indexing="ij"), -1), jnp.int32)
    shape = (x.shape[0], 1, 1, x.shape[3])
    return lax.gather(x, indices, pixels, shape, mode="promise_in_bounds")


def _gradient(geometry: Geometry, x: Array, y: Array, dy: Array) -> Array:
    """Sum dy over the windows in which a pixel is the first of the largest values."""
    size, window = geometry
    wide = jnp.promote_types(x.dtype, jnp.float32)
    padded = _pad(x, window)
    number = {tap: n for n, tap in enumerate(taps(size), start=1)}
    winner = jnp.zeros(y.shape, jnp.int32)
    for tap in reversed(number):
        equal = shifted_slice(padded, tap, y.shape[1:3], window.strides) == y
        winner = jnp.where(equal, jnp.int32(number[tap]), winner)
    gradient = gather_gradient(
        window,
        size,
        x.shape[1:3],
        (dy.astype(wide), winner),
        lambda tap, dy, winner: jnp.where(winner == number[tap], dy, 0),
    )
    return gradient.astype(x.dtype)


def _pad(x: Array, window: Window) -> Array:
    edges = [(0, 0, 0), *((low, high, 0) for low, high in window.padding), (0, 0, 0)]
    return lax.pad(x, jnp.asarray(-jnp.inf, x.dtype), edges)
