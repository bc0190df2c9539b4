"""The largest value under a window, and its gradient.

XLA's CPU backend computes the gradient by a reduction over windows that carries positions along,
and a scatter: 12 to 20 times slower than here, a sixth of the training steps of Xception and
ShuffleNet V2. Here each pixel gathers it from the windows in which it was the largest. The maximum
of shifted slices is 1.4 to 7 times faster than the reduction over windows.
"""

from collections.abc import Callable
from functools import partial, reduce

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array, lax

from flaxmobile.ops.meshes import shared_out
from flaxmobile.ops.once import computed_once
from flaxmobile.ops.shifts import gather_gradient, shifted_slice, taps
from flaxmobile.ops.window import Pair, Window, output_size

_LEAST_CHANNELS = 64
"""Of fewer, slices are faster than a gather: with one, ShuffleNet V2, which has 24, would take 1.07
times as long for an image."""


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
    y: Array = shared_out(partial(_window_max, size, window), x)
    return y


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _window_max(size: Pair, window: Window, x: Array) -> Array:
    return _maximum(in_place, size, window, x)


def _forward(size: Pair, window: Window, x: Array) -> tuple[Array, tuple[Array, Array]]:
    y = _maximum(shifted_maximum, size, window, x)
    return y, (x, y)


def _backward(size: Pair, window: Window, saved: tuple[Array, Array], dy: Array) -> tuple[Array]:
    return (_gradient(size, window, *saved, dy),)


_window_max.defvjp(_forward, _backward)


@partial(jax.jit, static_argnums=(0, 1, 2))  # so that layers of the same shape are traced once
def _maximum(on_cpu: Callable[..., Array], size: Pair, window: Window, x: Array) -> Array:
    return lax.platform_dependent(
        x, cpu=partial(on_cpu, size, window), default=partial(_native, size, window)
    )


@partial(jax.jit, static_argnums=(0, 1))
def _gradient(size: Pair, window: Window, x: Array, y: Array, dy: Array) -> Array:
    def native(x: Array, y: Array, dy: Array) -> Array:
        del y
        gradient: Array = jax.vjp(partial(_native, size, window), x)[1](dy)[0]
        return gradient

    return lax.platform_dependent(x, y, dy, cpu=partial(gathered, size, window), default=native)


def _native(size: Pair, window: Window, x: Array) -> Array:
    return nn.max_pool(x, size, window.strides, window.padding)


def shifted_maximum(size: Pair, window: Window, x: Array) -> Array:
    """Take the largest of the padded image's shifted slices."""
    reach = output_size(x.shape[1:3], size, window)
    padded = _pad(x, window)
    return reduce(
        jnp.maximum, (shifted_slice(padded, tap, reach, window.strides) for tap in taps(size))
    )


def in_place(size: Pair, window: Window, x: Array) -> Array:
    """`shifted_maximum` of an image that is not padded; not for training.

    A window that reaches beyond the image sees its nearest pixel there, which is in the window
    anyway. So what a product gives is read as it is, its bias included, and not first written with
    a margin: inference of Xception takes 2 to 3 percent less. In training, where the result is used
    again, XLA would write what each tap sees.
    """
    # A window may lie beyond the image altogether.
    beyond = any(max(pads) >= side for pads, side in zip(window.padding, size, strict=True))
    if beyond or x.shape[-1] < _LEAST_CHANNELS:
        return shifted_maximum(size, window, x)
    reach = output_size(x.shape[1:3], size, window)
    return computed_once(reduce(jnp.maximum, (_seen(x, tap, reach, window) for tap in taps(size))))


def _seen(x: Array, tap: Pair, size: Pair, window: Window) -> Array:
    """What windows without dilation see of the image at a tap, [n, *size, c]."""
    rows, columns = (
        np.clip(np.arange(count) * stride + start - before, 0, side - 1)
        for count, stride, start, (before, _), side in zip(
            size, window.strides, tap, window.padding, x.shape[1:3], strict=True
        )
    )
    pixels = lax.GatherDimensionNumbers((0, 3), (1, 2), (1, 2))
    places = jnp.asarray(np.stack(np.meshgrid(rows, columns, indexing="ij"), -1), jnp.int32)
    shape = (x.shape[0], 1, 1, x.shape[3])
    return lax.gather(x, places, pixels, shape, mode="promise_in_bounds")


def gathered(size: Pair, window: Window, x: Array, y: Array, dy: Array) -> Array:
    """Compare each tap with the largest value, then gather dy where the tap is the first equal."""
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
