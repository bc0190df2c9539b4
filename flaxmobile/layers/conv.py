"""Convolution, and convolution with normalization and activation: the unit of every network."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from flaxmobile.errors import InputError
from flaxmobile.layers.activations import Activation
from flaxmobile.layers.norm import BatchNorm
from flaxmobile.layers.normalize import Expansion
from flaxmobile.ops import Padding, dense_conv, depthwise_conv, grouped_conv, pointwise_conv

kernel_init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
"""He et al. 2015 over the outputs, torchvision's choice for this family."""

_LEAST_EXPANSION = 4
"""Output per input channels from which a 1×1 convolution's output is normalized by its input. At 2,
MobileNetV1's, the covariance of the input costs what passes over the output would."""


class Conv(nn.Module):
    """2-D convolution through `flaxmobile.ops`; parameters as `flax.linen.Conv` stores them.

    Attributes:
      features: output channels.
      kernel_size: one number for a square kernel, or (height, width).
      stride: of both axes.
      dilation: of both axes.
      groups: a divisor of both numbers of channels; the number of input channels makes the
        convolution depthwise, with features / groups outputs per channel.
      padding: see `flaxmobile.ops.make_window`.
      use_bias: add a bias per output channel.
      dtype: type of the arithmetic; parameters are float32.
    """

    features: int
    kernel_size: int | tuple[int, int] = 1
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    padding: Padding = "symmetric"
    use_bias: bool = True
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Convolve x [n, h, w, c] to [n, h', w', features]."""
        if x.shape[-1] % self.groups or self.features % self.groups:
            raise InputError(
                f"{x.shape[-1]} input and {self.features} output channels cannot be divided into "
                f"{self.groups} groups"
            )
        size = self.kernel_size
        height, width = (size, size) if isinstance(size, int) else size
        shape = (height, width, x.shape[-1] // self.groups, self.features)
        kernel = jnp.asarray(self.param("kernel", kernel_init, shape, jnp.float32), self.dtype)
        x = jnp.asarray(x, self.dtype)
        window: dict[str, Any] = {
            "strides": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
        }
        if self.groups == x.shape[-1] > 1:
            y = depthwise_conv(x, kernel, **window)
        elif (height, width) == (1, 1):
            mix = pointwise_conv if self.groups == 1 else grouped_conv
            y = mix(x, kernel, strides=self.stride)
        else:
            y = dense_conv(x, kernel, **window)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
            y += jnp.asarray(bias, self.dtype).reshape(1, 1, 1, -1)
        return y


class ConvNorm(nn.Module):
    """Convolution without bias, batch normalization, activation.

    Attributes:
      features, kernel_size, stride, dilation, groups, padding, dtype: see `Conv`.
      activation: applied last; None for a linear unit.
      norm_momentum, norm_epsilon, axis_name: see `BatchNorm`.
      frozen_norm: use the running statistics in training too, and leave them as they are.
      folded: the normalization is folded into the kernel and a bias (`fold_batch_norm`).
    """

    features: int
    kernel_size: int | tuple[int, int] = 1
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    activation: Activation | None = None
    padding: Padding = "symmetric"
    norm_momentum: float = 0.9
    norm_epsilon: float = 1e-5
    frozen_norm: bool = False
    folded: bool = False
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map x [n, h, w, c] to [n, h', w', features]."""
        conv = Conv(
            self.features,
            self.kernel_size,
            stride=self.stride,
            dilation=self.dilation,
            groups=self.groups,
            padding=self.padding,
            use_bias=self.folded,
            dtype=self.dtype,
            name="conv",
        )
        if self.folded:
            x = conv(x)
        else:
            norm = BatchNorm(
                self.norm_momentum, self.norm_epsilon, self.dtype, self.axis_name, name="norm"
            )
            y = conv(x)
            if not train or self.frozen_norm:
                x = norm(y)
            else:
                x = norm(y, False, self._expansion(x, conv))
        return x if self.activation is None else self.activation(x)

    def _expansion(self, x: Array, conv: Conv) -> Expansion | None:
        """What was convolved, where the statistics are cheaper to have from it than from y."""
        of_pixels = self.kernel_size in (1, (1, 1)) and self.stride == self.groups == 1
        if not of_pixels or self.features < _LEAST_EXPANSION * x.shape[-1]:
            return None
        made_of = x, conv.variables["params"]["kernel"]
        return Expansion(*(jnp.asarray(a, self.dtype) for a in made_of))
