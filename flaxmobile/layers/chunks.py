"""A batch in chunks of images, so that a layer's output stays in a CPU's cache."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax
from jax.typing import ArrayLike

from flaxmobile.layers.conv import Conv

Outputs = Any
"""An array, or a tree of arrays, with an entry for each image."""


def in_chunks(function: Callable[[Array], Outputs], x: Array, most_bytes: int) -> Outputs:
    """Apply a function to chunks of images whose widest map fits into a number of bytes.

    Args:
      function: of images [n, h, w, c], each computed independently of the others.
      x: images [n, h, w, c].
      most_bytes: limit of the largest output of a convolution for one chunk; a chunk has at least
        one image.

    Returns:
      function(x).
    """
    image_bytes = max(convolution_bytes(function, x), default=0) // len(x)
    divisors = [n for n in range(1, len(x) + 1) if len(x) % n == 0]
    suitable = max((n for n in divisors if n * image_bytes <= most_bytes), default=1)
    return map_chunks(
        lambda i: function(slice_images(x, i * suitable, suitable)), len(x) // suitable
    )


def convolution_bytes(
    function: Callable[[Array], Outputs], x: ArrayLike | jax.ShapeDtypeStruct
) -> list[int]:
    """Count the bytes of each convolution's output when a function is applied to x."""
    sizes: list[int] = []

    def record(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Outputs:
        y = call(*args, **kwargs)
        if isinstance(context.module, Conv) and context.method_name == "__call__":
            sizes.append(y.nbytes)
        return y

    with nn.intercept_methods(record):
        jax.eval_shape(function, x)
    return sizes


def slice_images(images: Array, start: ArrayLike, count: int) -> Array:
    """Take `count` images from `start` on."""
    return images if count == images.shape[0] else lax.dynamic_slice_in_dim(images, start, count)


def map_chunks(function: Callable[[ArrayLike], Outputs], times: int) -> Outputs:
    """Concatenate function(0), function(1), …, function(times - 1), in a loop."""
    if times == 1:
        return function(0)
    outputs = lax.map(function, jnp.arange(times))
    return jax.tree.map(lambda y: y.reshape(y.shape[0] * y.shape[1], *y.shape[2:]), outputs)
