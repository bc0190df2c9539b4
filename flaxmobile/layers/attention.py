"""Attention over channels."""

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from flaxmobile.layers.activations import Activation, hard_sigmoid, relu
from flaxmobile.layers.conv import Conv
from flaxmobile.layers.quantization import activate, quantize
from flaxmobile.ops import global_mean, materialize_on_cpu


class SqueezeExcite(nn.Module):
    """Scale each channel by a gate computed from the mean of every channel.

    x · gate(expand(activation(reduce(mean(x))))) (Hu et al. 2018, figure 2).

    Attributes:
      squeezed: channels between the two 1×1 convolutions, which have biases.
      activation: after the first convolution.
      gate: after the second convolution.
      dtype: type of the arithmetic.
    """

    squeezed: int
    activation: Activation = relu
    gate: Activation = hard_sigmoid
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Scale x [n, h, w, c] by its gate [n, 1, 1, c]."""
        x = materialize_on_cpu(x)
        mean = quantize(global_mean(x)[:, None, None], "mean_range")  # [n, 1, 1, c]
        y = Conv(self.squeezed, dtype=self.dtype, name="reduce")(mean)
        y = activate(self.activation, y, "reduced_range")
        y = Conv(x.shape[-1], dtype=self.dtype, name="expand")(y)
        return quantize(x * activate(self.gate, y, "gate_range"))
