"""Inception convolution: a convolution whose channels are dilated each in their own way.

Paper: Liu et al., "Inception Convolution with Efficient Dilation Search", CVPR 2021
(arXiv:2012.13587), section 3.1.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array

from flaxmobile.errors import InputError
from flaxmobile.layers.conv import Conv, ConvNorm, kernel_init
from flaxmobile.layers.norm import BatchNorm
from flaxmobile.ops import dense_conv, depthwise_conv

Dilations = tuple[tuple[int, int], ...]
"""(vertical, horizontal) of each output channel."""

MAX_DILATION = 4


class ICConv(Conv):
    """Inception convolution (section 3.1, figure 1): a dilation per output channel and axis.

    Its parameters are those of `Conv`, in the network's order of channels.

    Attributes:
      dilations: (vertical, horizontal) of each output channel, on top of `dilation`.
      groups: 1, or the number of input channels (depthwise).
      The others: see `Conv`.
    """

    dilations: Dilations = ()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Convolve x [n, h, w, c] to [n, h', w', features]."""
        if self.groups not in (1, x.shape[-1]):
            raise InputError(f"groups is {self.groups}; accepted: 1 or {x.shape[-1]} (depthwise)")
        check_dilations("this layer", self.dilations, self.features)
        size = self.kernel_size
        height, width = (size, size) if isinstance(size, int) else size
        shape = (height, width, x.shape[-1] // self.groups, self.features)
        kernel = jnp.asarray(self.param("kernel", kernel_init, shape, jnp.float32), self.dtype)
        y = self._mix(jnp.asarray(x, self.dtype), kernel)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
            y += jnp.asarray(bias, self.dtype).reshape(1, 1, 1, -1)
        return y

    def _mix(self, x: Array, kernel: Array) -> Array:
        """One convolution per distinct dilation, then the channels back in their order."""
        parts, order = [], np.asarray([], int)
        for dilation in sorted(set(self.dilations)):
            channels = np.asarray([i for i, d in enumerate(self.dilations) if d == dilation])
            order = np.concatenate([order, channels])
            options: dict[str, Any] = {
                "strides": self.stride,
                "padding": self.padding,
                "dilation": tuple(self.dilation * d for d in dilation),
            }
            if self.groups == 1:
                parts.append(dense_conv(x, kernel[..., channels], **options))
            else:
                seen = channels * self.groups // self.features  # the input of each output channel
                parts.append(depthwise_conv(x[..., seen], kernel[..., channels], **options))
        y = jnp.concatenate(parts, -1)
        return y if (np.diff(order) == 1).all() else y[..., np.argsort(order)]


class ICConvNorm(ConvNorm):
    """`ConvNorm` whose convolution is an `ICConv` (figure 2, right).

    Attributes:
      dilations: see `ICConv`.
      The others: see `ConvNorm`.
    """

    dilations: Dilations = ()

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map x [n, h, w, c] to [n, h', w', features]."""
        x = ICConv(
            self.features,
            self.kernel_size,
            stride=self.stride,
            dilation=self.dilation,
            groups=self.groups,
            padding=self.padding,
            use_bias=self.folded,
            dtype=self.dtype,
            dilations=self.dilations,
            name="conv",
        )(x)
        if not self.folded:
            x = BatchNorm(
                self.norm_momentum, self.norm_epsilon, self.dtype, self.axis_name, name="norm"
            )(x, use_running_average=not train or self.frozen_norm)
        return x if self.activation is None else self.activation(x)


def check_dilations(layer: str, dilations: Any, channels: int) -> None:
    """Raise InputError unless there is a pair of 1 to 4 for each output channel."""
    if not isinstance(dilations, list | tuple) or len(dilations) != channels:
        count = len(dilations) if isinstance(dilations, list | tuple) else repr(dilations)
        raise InputError(
            f"the dilation pattern has {count} for {layer}; accepted: {channels} entries, "
            "[vertical, horizontal] of each output channel"
        )
    for channel, pair in enumerate(dilations):
        is_pair = isinstance(pair, list | tuple) and len(pair) == 2
        if not is_pair or any(type(d) is not int or not 1 <= d <= MAX_DILATION for d in pair):
            raise InputError(
                f"the dilation pattern has {pair!r} for channel {channel} of {layer}; accepted: "
                f"[vertical, horizontal], whole numbers from 1 to {MAX_DILATION}"
            )
