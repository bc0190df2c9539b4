"""Batch normalization of a 1×1 convolution's output, by passes over its narrower input.

With y = x · W, the mean of y is mean(x) · W and its variance the diagonal of Wᵀ cov(x) W. The
gradient through the statistics is linear in y, and so in x. The only wide map that the backward
pass reads is dz, the gradient of the normalized y: for its sum, and for the two products of the
convolution's gradients. MobileNetV2's training step runs 6 percent faster on a CPU. On TPUs and
GPUs nothing is gained: their compilers compute the sums of y while they write y.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from flaxmobile.compat import varying_axes
from flaxmobile.ops import batch_norm
from flaxmobile.ops.batch_norm import (
    Normalized,
    NormSettings,
    average,
    coefficients,
    normalize,
    pack_residuals,
    rescale,
)
from flaxmobile.ops.dispatch import by_platform, is_native
from flaxmobile.ops.meshes import partition_by_compiler, unify_varying_axes
from flaxmobile.ops.pointwise import pointwise_conv
from flaxmobile.ops.product import product
from flaxmobile.ops.sums import cross_sums

_LEAST_EXPANSION = 4
"""Smallest ratio of output to input channels at which this pays. At 2, as in MobileNetV1, the
covariance of the input costs as much as passes over the output."""


class Factors(NamedTuple):
    """A map and the matrix by which a 1×1 convolution multiplies its pixels.

    Attributes:
      x: [n, h, w, c].
      kernel: [1, 1, c, d], in x's type.
    """

    x: Array
    kernel: Array


def normalize_product(
    settings: NormSettings, y: Array, factors: Factors, scale: Array, bias: Array
) -> Normalized:
    """Normalize y = x · W [n, h, w, d] over the batch, by passes over x where that pays.

    In float32 this is as exact as `normalize`, unless channels of x cancel in a channel of y. The
    error of its variance is then about 1e-7 times the variance of the summands.

    Args:
      settings: see `NormSettings`.
      y: the convolution's output.
      factors: x and W.
      scale: [d].
      bias: [d].

    Returns:
      y normalized, and the mean and biased variance of each channel.
    """
    if is_native() or y.shape[-1] < _LEAST_EXPANSION * factors.x.shape[-1]:
        return normalize(settings, y, scale, bias)
    # The custom VJP propagates y's gradient to x and W.
    arrays = unify_varying_axes(lax.stop_gradient(y), factors, scale, bias)
    function = partial(_normalize, settings)
    z, mean, var = partition_by_compiler(function, *arrays, statistics=2)
    return z, mean, var


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _normalize(
    settings: NormSettings, y: Array, factors: Factors, scale: Array, bias: Array
) -> Normalized:
    return _forward(settings, y, factors, scale, bias)[0]


class _Moments(NamedTuple):
    """Moments over the global batch; unused ones are zeros.

    Attributes:
      mean, var: of y, [d].
      x_mean, covariance: of x, [c] and [c, c].
    """

    mean: Array
    var: Array
    x_mean: Array
    covariance: Array


def _forward(
    settings: NormSettings, y: Array, factors: Factors, scale: Array, bias: Array
) -> tuple[Normalized, tuple[Any, ...]]:
    y = _as_product(factors, y)
    found: _Moments = by_platform(
        y,
        factors,
        cpu=partial(_moments_by_input, settings),
        default=partial(_moments_by_output, settings),
    )
    mean, var = found.mean, found.var
    z = rescale(y, *coefficients(settings.epsilon, scale, bias, mean, var))
    vectors = pack_residuals(settings, mean, var), found.x_mean, found.covariance
    return (z.astype(settings.dtype), mean, var), (y, factors, scale, *vectors)


@jax.custom_vjp
def _as_product(factors: Factors, y: Array) -> Array:
    """Return y, with the gradients of x · W: for second derivatives, which pass through y."""
    return y


def _product_gradients(factors: Factors, dy: Array) -> tuple[Factors, None]:
    return Factors(*jax.vjp(pointwise_conv, *factors)[1](dy)), None


_as_product.defvjp(lambda factors, y: (y, factors), _product_gradients)


def _moments_by_input(settings: NormSettings, y: Array, factors: Factors) -> _Moments:
    x, weights = factors.x, _matrix(factors)
    pixels = x.size // x.shape[-1]
    sums = x.sum((0, 1, 2), weights.dtype), cross_sums(x, x)
    x_mean, square = average((sums[0] / pixels, sums[1] / pixels), settings.axis_name)
    covariance = square - jnp.outer(x_mean, x_mean)
    var = jnp.maximum((weights * (covariance @ weights)).sum(0), 0)
    mean = x_mean @ weights
    if settings.axis_name in varying_axes(mean):  # equal on all devices: this tells JAX
        mean, var = average((mean, var), settings.axis_name)
    return _Moments(mean, var, x_mean, covariance)


def _moments_by_output(settings: NormSettings, y: Array, factors: Factors) -> _Moments:
    channels, wide = factors.x.shape[-1], _matrix(factors).dtype
    unused = jnp.zeros(channels, wide), jnp.zeros((channels, channels), wide)
    return _Moments(*unify_varying_axes(*batch_norm.moments(settings, y), *unused))


def _backward(
    settings: NormSettings, residuals: tuple[Any, ...], cotangents: Normalized
) -> tuple[Any, ...]:
    # Not inside `jax.jit`, with which a TPU needs 17 percent more temporary memory.
    gradients = by_platform(
        residuals,
        cotangents,
        cpu=partial(_gradients_by_input, settings),
        default=partial(_gradients_by_output, settings),
    )
    return None, *gradients


def _gradients_by_input(
    settings: NormSettings, residuals: tuple[Any, ...], cotangents: Normalized
) -> tuple[Factors, Array, Array]:
    """Gradients of normalization and convolution, with ŷ = (x - mean(x)) · W / σ."""
    _, factors, scale, (_, minus_inverse), x_mean, covariance = residuals
    x, weights = factors.x, _matrix(factors)
    inverse = -minus_inverse
    dz = cotangents[0]
    dz_sum = dz.sum((0, 1, 2), weights.dtype)
    # Under pmap x_mean is the mean over all devices: a device's own gradient differs by a term that
    # cancels when the gradients are averaged.
    products = cross_sums(x, dz) - jnp.outer(x_mean, dz_sum)
    d_scale = inverse * (weights * products).sum(0)
    pixels = x.size // x.shape[-1]
    dz_mean, d_scale_mean = average((dz_sum / pixels, d_scale / pixels), settings.axis_name)
    # dy = dz · factor - (x - mean(x)) · W · y_factor - factor · mean(dz)
    factor = scale * inverse
    y_weights = rescale(weights, factor * inverse * d_scale_mean)
    d_weights = rescale(products, factor) - pixels * (covariance @ y_weights)
    back = y_weights @ weights.T
    offset = x_mean @ back - weights @ (factor * dz_mean)
    dx = _multiply(dz, rescale(weights, factor).T) - _multiply(x, back)
    dx += offset.reshape(1, 1, 1, -1)
    kernel = factors.kernel
    d_kernel = d_weights.reshape(kernel.shape).astype(kernel.dtype)
    return Factors(dx.astype(x.dtype), d_kernel), d_scale, dz_sum


def _gradients_by_output(
    settings: NormSettings, residuals: tuple[Any, ...], cotangents: Normalized
) -> tuple[Factors, Array, Array]:
    y, factors, scale, vectors, *_ = residuals
    dy, d_scale, d_bias = batch_norm.gradients(settings, (y, scale, vectors), cotangents)
    return _product_gradients(factors, dy)[0], d_scale, d_bias


_normalize.defvjp(_forward, _backward)


def _matrix(factors: Factors) -> Array:
    """W [c, d] in float32 or wider."""
    kernel = factors.kernel[0, 0]
    return kernel.astype(jnp.promote_types(kernel.dtype, jnp.float32))


def _multiply(x: Array, weights: Array) -> Array:
    """Multiply in the training form: in a custom VJP `pointwise_conv` would choose inference's."""
    flat = product(x.reshape(-1, x.shape[-1]), weights.astype(x.dtype))
    return flat.reshape(*x.shape[:-1], weights.shape[1]).astype(weights.dtype)
