"""Grouped 1×1 convolution: a matrix per group of channels (ShuffleNet V1)."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array

from flaxmobile.errors import InputError
from flaxmobile.ops.dispatch import Forms, apply_form, native_conv
from flaxmobile.ops.product import product
from flaxmobile.ops.window import Window, as_pair


def grouped_conv(x: Array, kernel: Array, *, strides: int | Sequence[int] = 1) -> Array:
    """Mix the channels of each pixel within groups.

    On a CPU this is a matrix product per group. XLA computes the kernel gradient of a grouped
    convolution for all pairs of channels, and then masks it.

    Args:
      x: images [n, h, w, c].
      kernel: [1, 1, c / groups, d]; output channels i * d / groups and on belong to group i.
      strides: keeps every strides-th row and column.

    Returns:
      [n, ceil(h / strides), ceil(w / strides), d] in x's dtype.

    Raises:
      InputError: the kernel does not fit the image's channels.
    """
    channels = x.shape[-1]
    if (
        kernel.ndim != 4
        or kernel.shape[:2] != (1, 1)
        or 0 in kernel.shape
        or channels % kernel.shape[2]
        or kernel.shape[3] % (channels // kernel.shape[2])
    ):
        raise InputError(
            f"a grouped 1x1 kernel for {channels} channels has shape [1, 1, {channels} / groups, d]"
            f" with d a multiple of groups, not {list(kernel.shape)}"
        )
    window = Window(as_pair(strides), ((0, 0), (0, 0)), (1, 1))
    return apply_form(Forms(cpu=matmul_per_group, accelerator=native_conv), window, x, kernel)


def matmul_per_group(window: Window, x: Array, kernel: Array) -> Array:
    """Multiply [pixels, c / groups] × [c / groups, d / groups] per group, and concatenate."""
    sh, sw = window.strides
    x = x[:, ::sh, ::sw]
    groups = x.shape[-1] // kernel.shape[2]
    parts = jnp.split(x.reshape(-1, x.shape[-1]), groups, axis=-1)
    kernels = jnp.split(kernel[0, 0], groups, axis=-1)
    flat = jnp.concatenate(list(map(product, parts, kernels)), axis=-1)
    return flat.reshape(*x.shape[:-1], kernel.shape[-1])
