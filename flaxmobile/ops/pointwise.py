"""1×1 convolution: the same matrix applied to the channels of every pixel."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jax import Array

from flaxmobile.errors import InputError
from flaxmobile.ops.dispatch import Forms, apply_form, native_conv
from flaxmobile.ops.materialize import materialize_on_cpu
from flaxmobile.ops.product import divided_product, product, suits_sum, sum_of_columns
from flaxmobile.ops.window import Window, as_pair

_LEAST_PIXELS = 28**2
"""On smaller maps Eigen's product is as fast, whatever the channels."""


def pointwise_conv(x: Array, kernel: Array, *, strides: int | Sequence[int] = 1) -> Array:
    """Mix the channels of each pixel.

    On a CPU this is one matrix product. XLA would compute the kernel gradient of a convolution as a
    convolution with a window as large as the image. In inference it is a fused loop if there are
    few channels, and three products if there are few pixels.

    Args:
      x: images [n, h, w, c].
      kernel: [1, 1, c, d].
      strides: keeps every strides-th row and column.

    Returns:
      [n, ceil(h / strides), ceil(w / strides), d] in x's dtype.

    Raises:
      InputError: the kernel does not fit the image's channels.
    """
    if kernel.ndim != 4 or kernel.shape[:3] != (1, 1, x.shape[-1]):
        raise InputError(
            f"a 1x1 kernel for {x.shape[-1]} channels has shape [1, 1, {x.shape[-1]}, d], "
            f"not {list(kernel.shape)}"
        )
    window = Window(as_pair(strides), ((0, 0), (0, 0)), (1, 1))
    return apply_form(Forms(matmul, native_conv, inference=inference_matmul), window, x, kernel)


def matmul(
    window: Window, x: Array, kernel: Array, multiply: Callable[..., Array] = product
) -> Array:
    """Multiply [pixels, c] × [c, d]; einsum or a batched product would transpose the gradient."""
    sh, sw = window.strides
    x = x[:, ::sh, ::sw]
    flat = multiply(x.reshape(-1, x.shape[-1]), kernel[0, 0])
    return flat.reshape(*x.shape[:-1], kernel.shape[-1])


def inference_matmul(window: Window, x: Array, kernel: Array) -> Array:
    """Multiply as `matmul` does, in a form that suits few channels or few pixels; no gradient."""
    pixels, channels = x.shape[1] * x.shape[2], x.shape[-1]
    if not (suits_sum(channels, kernel.shape[-1]) and pixels >= _LEAST_PIXELS):
        return matmul(window, x, kernel, divided_product)
    sh, sw = window.strides
    wide = jnp.promote_types(x.dtype, jnp.float32)
    columns = jnp.split(materialize_on_cpu(x[:, ::sh, ::sw]).astype(wide), channels, axis=-1)
    return sum_of_columns(columns, kernel[0, 0].astype(wide)).astype(x.dtype)
