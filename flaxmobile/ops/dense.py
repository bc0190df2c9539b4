"""Convolution over all channels at once: the stems, and the layers of the Inception family."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array, lax

from flaxmobile.errors import InputError
from flaxmobile.ops.dispatch import Forms, apply_form, native
from flaxmobile.ops.product import product, suits_sum, sum_of_columns
from flaxmobile.ops.window import Padding, Window, make_window, output_size

_FEW_CHANNELS = 4
"""An image's worth (RGB or RGBA): im2col pays on the CPU, 1.2 times for a whole network."""


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
        return apply_form(Forms(im2col, native, inference), window, x, kernel)
    return native(window, x, kernel)


def im2col(window: Window, x: Array, kernel: Array) -> Array:
    """Lay the pixels under the kernel side by side, kh * kw * c columns, and multiply once.

    What a row of the kernel covers stands together in memory. So a row of the image is cut into
    pieces of as many pixels as the horizontal stride, and a row of the kernel takes the first of
    its pixels from one piece, the next from the piece beside it, and so on.

    In float32 or wider, for the sake of the image's gradient: the sum over the columns that a pixel
    stands in. Without dilation.
    """
    wide = jnp.promote_types(x.dtype, jnp.float32)
    (kh, kw, channels, features), (sh, sw) = kernel.shape, window.strides
    height, width = output_size(x.shape[1:3], (kh, kw), window)
    rows, (left, _) = window.padding
    pieces = width + (kw - 1) // sw
    right = pieces * sw - x.shape[2] - left  # cuts off, or fills the last piece
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

    Without a gradient and without dilation. Writing `im2col`'s patches takes as long as this.
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
