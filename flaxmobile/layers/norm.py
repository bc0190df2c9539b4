"""Batch normalization with the reference implementations' running statistics."""

from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax

from flaxmobile.ops import pointwise_conv


class Moments(NamedTuple):
    """Statistics of a batch.

    Attributes:
      mean: [c].
      var: [c], biased.
      samples: how many values are behind each.
    """

    mean: Array
    var: Array
    samples: int


class BatchNorm(nn.Module):
    """Normalize each channel over the batch (Ioffe and Szegedy 2015, algorithms 1 and 2).

    Differs from `flax.linen.BatchNorm` in the running variance, which takes the unbiased estimate
    (n - 1 in the denominator) as PyTorch and TensorFlow's fused kernel do; the batch itself is
    normalized with the biased one, everywhere.

    Statistics are over the whole array: global under `jax.jit` with a sharded batch. Under
    `jax.pmap` give `axis_name` to average them over the devices.

    Attributes:
      momentum: the share of the old statistics kept at each step (PyTorch's momentum is 1 - this).
      epsilon: added to the variance.
      dtype: type of the output; statistics are in float32 or wider.
      axis_name: the `pmap` axis to average over.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, x: Array, use_running_average: bool = True, kernel: Array | None = None
    ) -> Array:
        """Normalize x [..., c], or the linear map x · kernel.

        Args:
          x: images [n, h, w, c], or any [..., c].
          use_running_average: use the statistics that there are; else those of the batch, which
            the running ones are then moved towards.
          kernel: [1, 1, c, d], of a 1×1 convolution of images that is to come first. It costs
            less here than before: see `_moments_of_product`.

        Returns:
          x's shape, or [n, h, w, d], in `dtype`.
        """
        axis_name = None if self.is_initializing() else self.axis_name
        if use_running_average:
            moments = None
        elif kernel is None:
            moments = _moments(x, axis_name)
        else:
            moments = _moments_of_product(x, kernel, axis_name)
        factor, offset = self._coefficients((x if kernel is None else kernel).shape[-1], moments)
        lead = (1,) * (x.ndim - 1)
        factor, offset = factor.reshape(*lead, -1), offset.reshape(*lead, -1)
        if kernel is None:
            y = x.astype(jnp.promote_types(x.dtype, jnp.float32)) * factor + offset
            return y.astype(self.dtype)
        y = pointwise_conv(x.astype(self.dtype), (kernel * factor).astype(self.dtype))
        return y + offset.astype(self.dtype)

    def _coefficients(self, features: int, moments: Moments | None) -> tuple[Array, Array]:
        """What to multiply by and what to add, each [c]; updates the running statistics."""
        shape = (features,)
        scale = self.param("scale", nn.initializers.ones, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, shape, jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        mean, var = running_mean.value, running_var.value
        if moments is not None:
            mean, var, samples = moments
            if not self.is_initializing():
                unbiased = var * (samples / max(samples - 1, 1))
                running_mean.value = self._update(running_mean.value, mean)
                running_var.value = self._update(running_var.value, unbiased)
        factor = scale * lax.rsqrt(var + self.epsilon)
        return factor, bias - mean * factor

    def _update(self, old: Array, new: Array) -> Array:
        return self.momentum * old + (1 - self.momentum) * lax.stop_gradient(new).astype(old.dtype)


def _moments(x: Array, axis_name: str | None) -> Moments:
    """Of each channel of x [..., c]."""
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    axes = tuple(range(x.ndim - 1))
    mean, square = _mean((x.mean(axes), jnp.square(x).mean(axes)), axis_name)
    # The difference of two roundings may fall below zero, and its root would be NaN (flax#1491).
    var = jnp.maximum(square - jnp.square(mean), 0)
    return Moments(mean, var, _samples(x, axis_name))


def _moments_of_product(x: Array, kernel: Array, axis_name: str | None) -> Moments:
    """Of each channel of x · kernel, without computing it.

    The mean of x · w is mean(x) · w and its variance is wᵀ cov(x) w. Where the product is wider
    than x, as in the expansion of an inverted residual, that spares a pass over the widest maps of
    the network, and three more in the backward pass, in which the gradient through the statistics
    is one of x as well.
    """
    wide = jnp.promote_types(x.dtype, jnp.float32)
    flat = x.astype(wide).reshape(-1, x.shape[-1])
    columns = kernel.astype(wide).reshape(kernel.shape[-2:])
    product = partial(jnp.matmul, precision=lax.Precision.HIGHEST)
    mean = _mean(flat.mean(0), axis_name)
    centred = flat - mean[None]
    covariance = _mean(product(centred.T, centred) / len(flat), axis_name)
    var = (columns * product(covariance, columns)).sum(0)
    return Moments(product(mean, columns), jnp.maximum(var, 0), _samples(x, axis_name))


def _mean(values: Any, axis_name: str | None) -> Any:
    return values if axis_name is None else lax.pmean(values, axis_name)


def _samples(x: Array, axis_name: str | None) -> int:
    return x.size // x.shape[-1] * (1 if axis_name is None else lax.axis_size(axis_name))
