"""Convolution, and convolution with normalization and activation: the unit of every network."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from flaxmobile.errors import InputError
from flaxmobile.layers.activations import Activation
from flaxmobile.layers.norm import BatchNorm
from flaxmobile.layers.parameters import parameter
from flaxmobile.layers.quantization import (
    activate,
    kernel_steps,
    quantize_bias,
    quantize_kernel,
)
from flaxmobile.ops import Padding, dense_conv, depthwise_conv, grouped_conv, pointwise_conv
from flaxmobile.ops.expanded_norm import Factors

he_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
"""He et al. 2015 with the fan-out, torchvision's choice for these networks."""


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
      kernel_init: initializer of the kernel.
    """

    features: int
    kernel_size: int | tuple[int, int] = 1
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    padding: Padding = "symmetric"
    use_bias: bool = True
    dtype: jnp.dtype = jnp.float32
    kernel_init: nn.initializers.Initializer = he_fan_out

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
        kernel = parameter(self, "kernel", self.kernel_init, shape)
        steps = kernel_steps(self, kernel)
        rounded = jnp.asarray(quantize_kernel(kernel, steps), self.dtype)
        y = self.convolve(jnp.asarray(x, self.dtype), rounded)
        if self.use_bias:
            bias = parameter(self, "bias", nn.initializers.zeros, (self.features,))
            bias = quantize_bias(bias, x, steps)
            y += jnp.asarray(bias, self.dtype).reshape(1, 1, 1, -1)
        return y

    def convolve(self, x: Array, kernel: Array) -> Array:
        """Convolve x [n, h, w, c] with a kernel [kh, kw, c / groups, features]."""
        window: dict[str, Any] = {
            "strides": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
        }
        if self.groups == x.shape[-1] > 1:
            return depthwise_conv(x, kernel, **window)
        if kernel.shape[:2] != (1, 1):
            return dense_conv(x, kernel, **window)
        mix = pointwise_conv if self.groups == 1 else grouped_conv
        return mix(x, kernel, strides=self.stride)

    def factors(self, x: Array) -> Factors | None:
        """Return input and kernel of a convolution that is one matrix product, otherwise None."""
        is_product = self.kernel_size in (1, (1, 1)) and self.stride == self.groups == 1
        if not is_product or self.use_bias:
            return None
        kernel = self.get_variable("params", "kernel")
        return Factors(jnp.asarray(x, self.dtype), jnp.asarray(kernel, self.dtype))


class ConvNorm(nn.Module):
    """Convolution without bias, batch normalization, activation.

    activation(norm(conv(x))), or activation(conv(x)) where the normalization is folded.

    Attributes:
      features, kernel_size, stride, dilation, groups, padding, dtype: see `Conv`.
      activation: applied last; None for a linear unit.
      norm_momentum, norm_epsilon, axis_name: see `BatchNorm`.
      frozen_norm: use the running statistics in training too, and leave them as they are.
      folded: the normalization is folded into the kernel and a bias (`fold_batch_norm`).
      convolution: constructor of the convolution, `Conv` or a subclass.
      rounds: whether a quantized network rounds this output; False where the output is
        concatenated with others, and the concatenation is rounded as a whole.
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
    convolution: Callable[..., Conv] = Conv
    rounds: bool = True

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map x [n, h, w, c] to [n, h', w', features]."""
        conv = self.convolution(
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
        y = conv(x)
        if not self.folded:
            y = self.make_norm(name="norm")(
                y,
                use_running_average=not train or self.frozen_norm,
                product_of=conv.factors(x),
            )
        if not self.rounds:
            return y if self.activation is None else self.activation(y)
        return activate(self.activation, y)

    def make_norm(self, **place: Any) -> BatchNorm:
        """Make the unit's normalization."""
        return BatchNorm(self.norm_momentum, self.norm_epsilon, self.dtype, self.axis_name, **place)


def depthwise_unit(
    unit: Callable[..., Any], x: Array, train: bool, kernel_size: int = 3, **options: Any
) -> Array:
    """Make a unit that filters each channel of x [n, h, w, c] by itself, and apply it."""
    channels = x.shape[-1]
    y: Array = unit(channels, kernel_size, groups=channels, **options)(x, train)
    return y
