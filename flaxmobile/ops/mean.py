"""The mean over an image: global average pooling, and the squeeze of squeeze-and-excitation."""

import jax
import jax.numpy as jnp
from jax import Array, lax

from flaxmobile.ops.meshes import shared_out


def global_mean(x: Array) -> Array:
    """Average each channel of each image.

    On the CPU this is a product with a row of ones. XLA would draw what computes the image into the
    sum, and compute it again where the image is used a second time: the 25 taps of MobileNetV3's
    depthwise convolutions, in a loop that is not vectorized. That took a fifth of its inference.

    Args:
      x: images [n, h, w, c].

    Returns:
      [n, c] in float32 or wider.
    """
    mean: Array = shared_out(_global_mean, x)
    return mean


@jax.custom_jvp
def _global_mean(x: Array) -> Array:
    return _mean(x)


@_global_mean.defjvp
def _tangent(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """In training there is a normalization to wait for: nothing is computed again, or gained."""
    return jax.jvp(_plain, primals, tangents)


@jax.jit  # so that maps of the same shape are traced once
def _mean(x: Array) -> Array:
    return lax.platform_dependent(x, cpu=_product, default=_plain)


def _product(x: Array) -> Array:
    wide = jnp.promote_types(x.dtype, jnp.float32)
    images, channels, pixels = x.shape[0], x.shape[-1], x.shape[1] * x.shape[2]
    ones = jnp.ones((images, 1, pixels), wide)
    total = ones @ x.astype(wide).reshape(images, pixels, channels)
    return total[:, 0] / pixels


def _plain(x: Array) -> Array:
    return x.mean((1, 2), dtype=jnp.promote_types(x.dtype, jnp.float32))
