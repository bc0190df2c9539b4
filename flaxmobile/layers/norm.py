"""Batch normalization with the reference implementations' running statistics."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax


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
    def __call__(self, x: Array, use_running_average: bool = True) -> Array:
        """Normalize x [..., c]; with `use_running_average=False` also update the statistics."""
        shape = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, shape, jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        if use_running_average:
            mean, var = running_mean.value, running_var.value
        else:
            mean, var, count = _moments(x, None if self.is_initializing() else self.axis_name)
            if not self.is_initializing():
                unbiased = var * (count / max(count - 1, 1))
                running_mean.value = self._update(running_mean.value, mean)
                running_var.value = self._update(running_var.value, unbiased)
        factor = scale * lax.rsqrt(var + self.epsilon)
        offset = bias - mean * factor
        lead = (1,) * (x.ndim - 1)
        wide = jnp.promote_types(x.dtype, jnp.float32)
        y = x.astype(wide) * factor.reshape(*lead, -1) + offset.reshape(*lead, -1)
        return y.astype(self.dtype)

    def _update(self, old: Array, new: Array) -> Array:
        return self.momentum * old + (1 - self.momentum) * lax.stop_gradient(new).astype(old.dtype)


def _moments(x: Array, axis_name: str | None) -> tuple[Array, Array, int]:
    """Mean [c], biased variance [c] and the number of values behind each."""
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    axes = tuple(range(x.ndim - 1))
    count = x.size // x.shape[-1]
    mean, square = x.mean(axes), jnp.square(x).mean(axes)
    if axis_name is not None:
        mean, square = lax.pmean((mean, square), axis_name)
        count *= jax.lax.axis_size(axis_name)
    # The difference of two roundings may fall below zero, and its root would be NaN (flax#1491).
    return mean, jnp.maximum(square - jnp.square(mean), 0), count
