"""Batch normalization with the reference implementations' running statistics."""

import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax

from flaxmobile.compat import max_dim
from flaxmobile.layers.parameters import parameter
from flaxmobile.ops.batch_norm import NormSettings, coefficients, normalize, rescale
from flaxmobile.ops.expanded_norm import Factors, normalize_product


class BatchNorm(nn.Module):
    """Normalize each channel over the batch (Ioffe and Szegedy 2015, algorithms 1 and 2).

    y = (x - mean) / sqrt(var + epsilon) · scale + bias. In training the statistics are those of the
    batch, and the running ones are updated by them; in inference they are the running ones.

    The running variance is updated with the unbiased estimate (n - 1 in the denominator), as in
    PyTorch and in TensorFlow's fused kernel. `flax.linen.BatchNorm` uses the biased one. The batch
    itself is normalized with the biased variance in all of them.

    Statistics are over the whole array: global under `jax.jit` with a sharded batch. Under
    `jax.pmap` give `axis_name` to average them over the devices.

    Attributes:
      momentum: weight of the old statistics in each update (PyTorch's momentum is 1 - this).
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
        self, x: Array, use_running_average: bool = True, product_of: Factors | None = None
    ) -> Array:
        """Normalize x.

        Args:
          x: images [n, h, w, c], or any [..., c].
          use_running_average: normalize by the running statistics; otherwise by those of the
            batch, and update the running ones.
          product_of: the input and kernel of the 1×1 convolution that computed x. The statistics of
            the batch are computed from these where that is faster: see `normalize_product`.

        Returns:
          x's shape in `dtype`.
        """
        shape = x.shape[-1:]
        scale = parameter(self, "scale", nn.initializers.ones, shape)
        bias = parameter(self, "bias", nn.initializers.zeros, shape)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        if use_running_average:
            factor, offset = coefficients(
                self.epsilon, scale, bias, running_mean.value, running_var.value
            )
            return rescale(x, factor, offset).astype(self.dtype)
        wide = jnp.promote_types(x.dtype, jnp.float32)
        scale, bias = (jnp.asarray(parameter, wide) for parameter in (scale, bias))
        axis_name = None if self.is_initializing() else self.axis_name
        settings = NormSettings(self.epsilon, self.dtype, axis_name)
        if product_of is None:
            y, mean, var = normalize(settings, x, scale, bias)
        else:
            y, mean, var = normalize_product(settings, x, product_of, scale, bias)
        if not self.is_initializing():
            samples = _samples(x, axis_name)
            unbiased = var * (samples / max_dim(samples - 1, 1))
            running_mean.value = self._update(running_mean.value, mean)
            running_var.value = self._update(running_var.value, unbiased)
        return y

    def _update(self, old: Array, new: Array) -> Array:
        return self.momentum * old + (1 - self.momentum) * lax.stop_gradient(new).astype(old.dtype)


def _samples(x: Array, axis_name: str | None) -> int:
    return x.size // x.shape[-1] * (1 if axis_name is None else lax.axis_size(axis_name))
