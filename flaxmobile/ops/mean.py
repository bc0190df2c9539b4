"""The mean over an image: global average pooling, and the squeeze of squeeze-and-excitation."""

import jax.numpy as jnp
from jax import Array

from flaxmobile.ops.dispatch import Forms, apply_form


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


def _multiply(_: None, x: Array) -> Array:
    wide = jnp.promote_types(x.dtype, jnp.float32)
    images, channels, pixels = x.shape[0], x.shape[-1], x.shape[1] * x.shape[2]
    ones = jnp.ones((images, 1, pixels), wide)
    total = ones @ x.astype(wide).reshape(images, pixels, channels)
    return total[:, 0] / pixels


def _reduce(_: None, x: Array) -> Array:
    return x.mean((1, 2), dtype=jnp.promote_types(x.dtype, jnp.float32))
