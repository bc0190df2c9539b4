"""Convolution over all channels at once: the stems, and the layers of the Inception family."""

import math
from collections.abc import Sequence
from functools import reduce

import jax.numpy as jnp
from jax import Array, lax

from flaxmobile.errors import InputError
from flaxmobile.ops.dispatch import Forms, apply_form, native_conv
from flaxmobile.ops.product import product, suits_sum, sum_of_columns
from flaxmobile.ops.window import (
    Padding,
    Seen,
    Window,
    cut_window,
    make_window,
    output_size,
    seen_by_taps,
    seen_taps,
)

_FEW_CHANNELS = 4
"""Most channels of an image (RGB or RGBA). For these im2col makes whole networks 1.2 times faster
on a CPU."""

_MOST_SEEN = 2 / 3
"""Largest share of a dilated convolution's multiply-adds on pixels in the image, not in its
padding, at which `sum_of_taps` wins: at 0.57 it takes a third to a half of the convolution's time,
at 0.77 slightly more than all of it."""


def dense_conv(
    x: Array,
    kernel: Array,
    *,
    strides: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    dilation: int | Sequence[int] = 1,
) -> Array:
    """Convolve images [n, h, w, c] with a kernel [kh, kw, c / groups, d] to [n, h', w', d].

    Raises:
      InputError: the kernel does not fit the image's channels.
    """
    channels = x.shape[-1]
    if (
        kernel.ndim != 4
        or 0 in kernel.shape
        or channels % kernel.shape[2]
        or (kernel.shape[3] % (channels // kernel.shape[2]))
    ):
        raise InputError(
            f"a kernel for {channels} channels has shape [kh, kw, {channels} / groups, d] with d a "
            f"multiple of groups, not {list(kernel.shape)}"
        )
    window = make_window(x.shape[1:3], kernel.shape[:2], strides, padding, dilation)
    if channels == kernel.shape[2] <= _FEW_CHANNELS and window.dilation == (1, 1):
        features = kernel.shape[3]
        inference = direct if suits_sum(kernel.size // features, features) else im2col
        return apply_form(Forms(im2col, native_conv, inference), window, x, kernel)
    if max(window.dilation) > 1:
        rows, columns = taps = seen_taps(x.shape[1:3], kernel.shape[:2], window)
        window = cut_window(x.shape[1:3], kernel.shape[:2], window, taps)
        kernel = kernel[rows, columns]
        if channels == kernel.shape[2] and 0 < seen_share(window, x, kernel) <= _MOST_SEEN:
            return apply_form(Forms(sum_of_taps, native_conv), window, x, kernel)
    return native_conv(window, x, kernel)


def seen_share(window: Window, x: Array, kernel: Array) -> float:
    """Share of the convolution's multiply-adds whose pixel is in the image, not in its padding."""
    outputs = output_size(x.shape[1:3], kernel.shape[:2], window)
    seen = seen_by_taps(x.shape[1:3], kernel.shape[:2], window)
    return math.prod(
        sum(tap.size for tap in taps) / (len(taps) * size)
        for taps, size in zip(seen, outputs, strict=True)
    )


def sum_of_taps(window: Window, x: Array, kernel: Array) -> Array:
    """Multiply the part of the image that each tap of the kernel sees, and add it where it belongs.

    XLA's convolution multiplies the padding too, and slows down with the dilation. On a map of
    33×33 this form takes half of its time at DeepLab v3's rate 12, and a sixth at rate 24.
    """
    dtype, wide = x.dtype, jnp.promote_types(x.dtype, jnp.float32)
    height, width = output_size(x.shape[1:3], kernel.shape[:2], window)
    rows, columns = seen_by_taps(x.shape[1:3], kernel.shape[:2], window)
    x, kernel = x.astype(wide), kernel.astype(wide)  # the gradients' sums over the taps too

    def term(row: Seen, column: Seen, weights: Array) -> Array:
        part = x[:, row.pixels, column.pixels]
        flat = product(part.reshape(-1, part.shape[-1]), weights)
        vertical = row.outputs.start, height - row.outputs.stop, 0
        horizontal = column.outputs.start, width - column.outputs.stop, 0
        inside = flat.reshape(*part.shape[:3], -1)
        return lax.pad(inside, jnp.zeros((), wide), [(0, 0, 0), vertical, horizontal, (0, 0, 0)])

    terms = [
        term(row, column, weights)
        for row, row_of_kernel in zip(rows, kernel, strict=True)
        for column, weights in zip(columns, row_of_kernel, strict=True)
        if row.size and column.size
    ]
    return reduce(lax.add, terms).astype(dtype)


def im2col(window: Window, x: Array, kernel: Array) -> Array:
    """Concatenate the pixels under the kernel to kh * kw * c columns, and multiply once.

    The pixels under one row of the kernel are contiguous in memory. So each row of the image is
    split into pieces of `stride` pixels, and a row of the kernel reads its first `stride` pixels
    from one piece, the next ones from the piece to the right, and so on.

    The columns are float32 or wider, because the image's gradient is a sum over them. Dilation is
    not supported.
    """
    wide = jnp.promote_types(x.dtype, jnp.float32)
    (kh, kw, channels, features), (sh, sw) = kernel.shape, window.strides
    height, width = output_size(x.shape[1:3], (kh, kw), window)
    rows, (left, _) = window.padding
    pieces = width + (kw - 1) // sw
    right = pieces * sw - x.shape[2] - left  # crops, or pads the last piece
    padded = lax.pad(
        x.astype(wide).reshape(*x.shape[:2], x.shape[2] * channels),  # a long row is vectorized
        jnp.zeros((), wide),
        [(0, 0, 0), (*rows, 0), (left * channels, right * channels, 0)],
    )
    padded = padded.reshape(*padded.shape[:2], pieces, sw * channels)
    columns = [
        padded[:, i : i + (height - 1) * sh + 1 : sh, j // sw : j // sw + width][
            ..., : min(sw, kw - j) * channels
        ]
        for i in range(kh)
        for j in range(0, kw, sw)
    ]
    patches = jnp.concatenate(columns, axis=-1)  # [n, h', w', kh * kw * c]
    weights = kernel.astype(wide).reshape(-1, features)
    flat = product(patches.reshape(-1, len(weights)), weights)
    return flat.reshape(x.shape[0], height, width, features).astype(x.dtype)


def direct(window: Window, x: Array, kernel: Array) -> Array:
    """Sum over the values under the kernel, each times the weights of all outputs.

    For inference only, and without dilation. Materializing `im2col`'s patches alone would take as
    long.
    """
    wide = jnp.promote_types(x.dtype, jnp.float32)
    (kh, kw, channels, features), (sh, sw) = kernel.shape, window.strides
    height, width = output_size(x.shape[1:3], (kh, kw), window)
    rows, (left, right) = window.padding
    padded = jnp.pad(  # long rows are vectorized
        x.astype(wide).reshape(*x.shape[:2], x.shape[2] * channels),
        ((0, 0), rows, (left * channels, right * channels)),
    )
    step = sw * channels
    columns = [
        padded[:, i : i + (height - 1) * sh + 1 : sh, k : k + (width - 1) * step + 1 : step, None]
        for i in range(kh)
        for k in range(kw * channels)
    ]
    return sum_of_columns(columns, kernel.astype(wide).reshape(-1, features)).astype(x.dtype)
