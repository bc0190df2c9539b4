"""What batch normalization computes over a batch, and its gradients, as rules of our own."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from flaxmobile.ops import pointwise_conv
from flaxmobile.ops.sums import channel_sums, cross_sums


class Rule(NamedTuple):
    """How `normalize` works: see `BatchNorm`."""

    epsilon: float
    dtype: Any
    axis_name: str | None


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def normalize(rule: Rule, x: Array, scale: Array, bias: Array) -> tuple[Array, Array, Array]:
    """Normalize x [..., c] over the batch.

    The gradient is that of the output alone.

    Returns:
      x normalized, and the mean and biased variance of each channel.
    """
    return _forward(rule, x, scale, bias)[0]


def _forward(
    rule: Rule, x: Array, scale: Array, bias: Array
) -> tuple[tuple[Array, Array, Array], tuple[Array, ...]]:
    pixels = x.size // x.shape[-1]
    x_sum, square_sum = channel_sums(x, x)
    mean, square = _mean((x_sum / pixels, square_sum / pixels), rule.axis_name)
    # The difference of two roundings may fall below zero, and its root would be NaN (flax#1491).
    var = jnp.maximum(square - jnp.square(mean), 0)
    y = rescale(x, *coefficients(rule.epsilon, scale, bias, mean, var))
    # Kept as one array that the compiler may not compute again: on a TPU the temporary memory of
    # MobileNetV2's step falls by 14 percent, and with the negative sign its traffic by 1 percent.
    kept = lax.optimization_barrier(jnp.concatenate([mean, -lax.rsqrt(var + rule.epsilon)]))
    return (y.astype(rule.dtype), mean, var), (x, scale, kept)


def _backward(
    rule: Rule, saved: tuple[Array, ...], gradients: tuple[Array, Array, Array]
) -> tuple[Array, Array, Array]:
    """Ioffe and Szegedy 2015, section 3; x̂ is written out, so that x is all that is read."""
    x, scale, kept = saved
    mean, minus_inverse = jnp.split(kept, 2)
    dy = gradients[0]
    dy_sum, dy_x_sum = channel_sums(dy, x)
    d_scale = minus_inverse * (mean * dy_sum - dy_x_sum)
    # Of what the statistics give back, the mean over all devices' pixels counts.
    pixels = x.size // x.shape[-1]
    dy_mean, d_scale_mean = _mean((dy_sum / pixels, d_scale / pixels), rule.axis_name)
    factor = -scale * minus_inverse
    of_x = factor * minus_inverse * d_scale_mean
    dx = rescale(dy, factor, -factor * dy_mean - mean * of_x) + rescale(x, of_x)
    return dx.astype(x.dtype), d_scale, dy_sum


normalize.defvjp(_forward, _backward)


class Expansion(NamedTuple):
    """What a 1×1 convolution made a wider map of.

    x: [n, h, w, c].
    kernel: [1, 1, c, d].
    """

    x: Array
    kernel: Array


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def normalize_expanded(
    rule: Rule, y: Array, expansion: Expansion, scale: Array, bias: Array
) -> tuple[Array, Array, Array]:
    """Normalize y = x · W [n, h, w, d] over the batch, by passes over x alone.

    The mean of y is mean(x) · W and its variance the diagonal of Wᵀ cov(x) W. What its statistics
    add to the gradient is linear in y, so in x. Of the wide maps only y's gradient is read, for its
    sum and the two products of the convolution's own gradient: MobileNetV2's training step takes 6
    percent less time.

    In float32 as exact as `normalize`, unless the channels of x cancel in one of y: its variance is
    had to about 1e-7 of that of its summands.

    Args:
      rule: see `BatchNorm`.
      y: the convolution's output. Its gradient is given to x and the kernel, so what made y of
        them is not to be differentiated.
      expansion: x and W.
      scale: [d].
      bias: [d].

    Returns:
      y normalized, and the mean and biased variance of each channel.
    """
    return _forward_expanded(rule, y, expansion, scale, bias)[0]


def _forward_expanded(
    rule: Rule, y: Array, expansion: Expansion, scale: Array, bias: Array
) -> tuple[tuple[Array, Array, Array], tuple[Any, ...]]:
    x, weights = expansion.x, _weights(expansion)
    pixels = x.size // x.shape[-1]
    sums = x.sum((0, 1, 2), weights.dtype), cross_sums(x, x)
    x_mean, square = _mean((sums[0] / pixels, sums[1] / pixels), rule.axis_name)
    covariance = square - jnp.outer(x_mean, x_mean)
    mean = _exact(x_mean, weights)
    var = jnp.maximum((weights * _exact(covariance, weights)).sum(0), 0)
    z = rescale(y, *coefficients(rule.epsilon, scale, bias, mean, var))
    inverse = lax.rsqrt(var + rule.epsilon)
    return (z.astype(rule.dtype), mean, var), (expansion, scale, x_mean, covariance, inverse)


def _backward_expanded(
    rule: Rule, saved: tuple[Any, ...], gradients: tuple[Array, Array, Array]
) -> tuple[None, Expansion, Array, Array]:
    """`_backward` and the convolution's, where x̂ is (x - mean(x)) · W / σ."""
    expansion, scale, x_mean, covariance, inverse = saved
    x, weights = expansion.x, _weights(expansion)
    dz = gradients[0]
    dz_sum = dz.sum((0, 1, 2), weights.dtype)
    # Under pmap, what the mean of all devices adds to one's gradient it takes from the others'.
    products = cross_sums(x, dz) - jnp.outer(x_mean, dz_sum)
    d_scale = inverse * (weights * products).sum(0)
    pixels = x.size // x.shape[-1]
    dz_mean, d_scale_mean = _mean((dz_sum / pixels, d_scale / pixels), rule.axis_name)
    # dy is dz · factor - (x - mean(x)) · of_x - factor · mean(dz)
    factor = scale * inverse
    of_x = rescale(weights, factor * inverse * d_scale_mean)
    d_weights = rescale(products, factor) - pixels * _exact(covariance, of_x)
    back = _exact(of_x, weights.T)
    offset = _exact(x_mean, back) - _exact(weights, factor * dz_mean)
    dx = _mix(dz, rescale(weights, factor).T) - _mix(x, back) + offset.reshape(1, 1, 1, -1)
    kernel = expansion.kernel
    d_kernel = d_weights.reshape(kernel.shape).astype(kernel.dtype)
    return None, Expansion(dx.astype(x.dtype), d_kernel), d_scale, dz_sum


normalize_expanded.defvjp(_forward_expanded, _backward_expanded)


def _weights(expansion: Expansion) -> Array:
    """[c, d], rounded as for the convolution; float32 or wider."""
    kernel = expansion.kernel[0, 0].astype(expansion.x.dtype)
    return kernel.astype(jnp.promote_types(kernel.dtype, jnp.float32))


def _exact(a: Array, b: Array) -> Array:
    """A small product whose factors an accelerator is not to round."""
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


def _mix(x: Array, weights: Array) -> Array:
    return pointwise_conv(x, weights.astype(x.dtype)[None, None]).astype(weights.dtype)


def coefficients(
    epsilon: float, scale: Array, bias: Array, mean: Array, var: Array
) -> tuple[Array, Array]:
    """What to multiply by and what to add, each [c]."""
    factor = scale * lax.rsqrt(var + epsilon)
    return factor, bias - mean * factor


def rescale(x: Array, factor: Array, offset: Array | None = None) -> Array:
    """Multiply each channel of x [..., c], and add to it; float32 or wider."""
    lead = (1,) * (x.ndim - 1)
    y = x.astype(jnp.promote_types(x.dtype, jnp.float32)) * factor.reshape(*lead, -1)
    return y if offset is None else y + offset.reshape(*lead, -1)


def _mean(values: Any, axis_name: str | None) -> Any:
    return values if axis_name is None else lax.pmean(values, axis_name)
