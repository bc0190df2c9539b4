"""Dropout whose mask does not depend on how the batch is sharded, and stochastic depth."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax


class Dropout(nn.Module):
    """Zero a fraction of the values in training and scale up the rest (Srivastava et al. 2014).

    Under `jax.pmap` every device draws the mask of the whole batch and uses its own rows, so a
    step has the same results under `jit`, under `pmap` and on one device. It is for pooled features
    [n, c], whose mask is cheap.

    Attributes:
      rate: fraction of the values that become zero.
      axis_name: the `pmap` axis over which the batch is sharded.
    """

    rate: float
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array, deterministic: bool = True) -> Array:
        """Drop values of x [n, …]; needs an rng named "dropout" unless deterministic."""
        if deterministic or self.rate == 0:
            return x
        key = self.make_rng("dropout")
        # Initialization runs outside of the mapped function.
        axis_name = None if self.is_initializing() else self.axis_name
        devices = 1 if axis_name is None else lax.axis_size(axis_name)
        keep = jax.random.bernoulli(key, 1 - self.rate, (devices, *self.mask_shape(x)))
        keep = keep[0 if axis_name is None else lax.axis_index(axis_name)]
        return jnp.where(keep, x / (1 - self.rate), jnp.zeros_like(x))

    def mask_shape(self, x: Array) -> tuple[int, ...]:
        """Return the shape of a mask for x [n, …]: a value for each of its own."""
        return x.shape


class DropPath(Dropout):
    """Stochastic depth (Huang et al. 2016): zero a branch for a fraction of the images in training.

    The branch of the other images is scaled up, so that the expectation stays.
    """

    def mask_shape(self, x: Array) -> tuple[int, ...]:
        """Return the shape of a mask for x [n, …]: a value for each image."""
        return (len(x), *(1,) * (x.ndim - 1))
