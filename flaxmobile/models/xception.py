"""Xception: depthwise separable convolutions with shortcuts.

Paper: Chollet, "Xception: Deep Learning with Depthwise Separable Convolutions", CVPR 2017
(arXiv:1610.02357). The network is its figure 5.

The paper's implementation, Keras and timm agree but for numbers that are options here: timm (its
`legacy_xception`, our default) pads symmetrically and has an epsilon of 1e-5, Keras pads as
TensorFlow does (`padding="same"`) and has 1e-3. Neither has the fully connected layers that figure
5 calls optional.
"""

import math
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from flaxmobile.errors import InputError, unknown
from flaxmobile.layers import (
    Conv,
    ConvNorm,
    Network,
    max_pool,
    relu,
    thin_channels,
)
from flaxmobile.ops import Padding

ORDERS = ("depthwise_first", "pointwise_first")
STEM_CHANNELS = (32, 64)
EXIT_CHANNELS = (1536, 2048)


class Module(NamedTuple):
    """A module with a shortcut of figure 5.

    Attributes:
      name: of its parameters.
      channels: output channels of each of its separable convolutions.
      stride: 2 pools at the end, and the shortcut is a convolution.
      activate_first: begins with ReLU.
    """

    name: str
    channels: tuple[int, ...]
    stride: int = 1
    activate_first: bool = True


def named_modules(middle_blocks: int) -> list[Module]:
    """The rows of figure 5 between the stem and the last two separable convolutions."""
    middle = range(1, middle_blocks + 1)
    return [
        Module("entry1", channels=(128, 128), stride=2, activate_first=False),
        Module("entry2", channels=(256, 256), stride=2),
        Module("entry3", channels=(728, 728), stride=2),
        *(Module(f"middle{number}", channels=(728, 728, 728)) for number in middle),
        Module("exit", channels=(728, 1024), stride=2),
    ]


class SeparableConv(nn.Module):
    """A 3×3 convolution of each channel and a 1×1 convolution, then normalization: figure 4.

    Attributes:
      features: output channels.
      order: "depthwise_first" (TensorFlow's, and the network's) or "pointwise_first" (an extreme
        Inception module; section 2). There is no activation between the two (section 4.7).
      padding: of the 3×3 convolution.
      conv: the convolution unit, with the network's options bound.
      dtype: type of the arithmetic.
    """

    features: int
    order: str = "depthwise_first"
    padding: Padding = "symmetric"
    conv: Callable[..., nn.Module] = ConvNorm
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map x [n, h, w, c] to [n, h, w, features]."""
        if self.order not in ORDERS:
            raise unknown("order", self.order, ORDERS)
        if self.order == "pointwise_first":
            x = Conv(self.features, use_bias=False, dtype=self.dtype, name="pointwise")(x)
            return self.conv(self.features, 3, groups=self.features, name="depthwise")(x, train)
        channels = x.shape[-1]
        x = Conv(
            channels,
            3,
            groups=channels,
            padding=self.padding,
            use_bias=False,
            dtype=self.dtype,
            name="depthwise",
        )(x)
        return self.conv(self.features, name="pointwise")(x, train)


class XceptionModule(nn.Module):
    """Separable convolutions with a shortcut around them: the boxes of figure 5.

    Attributes:
      channels, stride, activate_first: see `Module`.
      padding: of the pooling.
      separable: the separable convolution, with the network's options bound.
      conv: the convolution unit of the shortcut, with the network's options bound.
    """

    channels: tuple[int, ...]
    stride: int = 1
    activate_first: bool = True
    padding: Padding = "symmetric"
    separable: Callable[..., nn.Module] = SeparableConv
    conv: Callable[..., nn.Module] = ConvNorm

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map x [n, h, w, c] to [n, ceil(h / stride), ceil(w / stride), channels[-1]]."""
        shortcut = x
        if self.stride != 1 or x.shape[-1] != self.channels[-1]:
            unit = self.conv(self.channels[-1], stride=self.stride, name="shortcut")
            shortcut = unit(x, train)
        for number, features in enumerate(self.channels, start=1):
            if number > 1 or self.activate_first:
                x = relu(x)
            x = self.separable(features, name=f"separable{number}")(x, train)
        if self.stride != 1:
            x = max_pool(x, 3, self.stride, self.padding)
        return x + shortcut


class Xception(Network):
    """Figure 5 of the paper. A backbone's maps of stride 4 to 16 are those before the ReLU.

    Attributes:
      alpha: width multiplier, above 0; no layer is thinner than 16 channels.
      middle_blocks: how often the middle flow is repeated.
      order: see `SeparableConv`.
      The others: see `Network`. `output_stride` is 32.
    """

    alpha: float = 1.0
    middle_blocks: int = 8
    order: str = "depthwise_first"
    dropout_rate: float = 0.5

    min_image_size: ClassVar[int] = 71
    output_strides: ClassVar[tuple[int, ...]] = (32,)
    crops_edges: ClassVar[bool] = True

    def check(self) -> None:
        """Raise InputError for an option that the network does not offer."""
        super().check()
        if not 0 < self.alpha < math.inf:
            raise InputError(f"alpha is {self.alpha}; accepted: any number above 0")
        if self.middle_blocks < 0:
            raise InputError(f"middle_blocks is {self.middle_blocks}; accepted: 0 or more")
        if self.order not in ORDERS:
            raise unknown("order", self.order, ORDERS)

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Array | dict[int, Array]:
        """Map images [n, h, w, 3] to logits [n, num_classes], or to {stride: features}."""
        self.check()
        conv, padding = self.conv_norm(), self.conv_norm().keywords["padding"]

        def separable(features: int, name: str) -> SeparableConv:
            return SeparableConv(features, self.order, padding, conv, self.dtype, name=name)

        x = self.check_images(images)
        crop = {"padding": "VALID", "activation": relu}
        stem1, stem2 = (thin_channels(channels, self.alpha) for channels in STEM_CHANNELS)
        x = conv(stem1, 3, stride=2, name="stem_conv1", **crop)(x, train)
        x = conv(stem2, 3, name="stem_conv2", **crop)(x, train)  # [n, h/2, w/2, 64]
        endpoints, stride = {2: x}, 2
        for module in named_modules(self.middle_blocks):
            stride *= module.stride
            if stride > self.deepest_stride:
                break
            x = endpoints[stride] = XceptionModule(
                tuple(thin_channels(channels, self.alpha) for channels in module.channels),
                module.stride,
                module.activate_first,
                padding,
                separable,
                conv,
                name=module.name,
            )(x, train)
        if self.deepest_stride >= 32:
            for number, channels in enumerate(EXIT_CHANNELS, start=1):
                width = thin_channels(channels, self.alpha)
                x = relu(separable(width, name=f"exit_separable{number}")(x, train))
            endpoints[32] = x  # [n, h/32, w/32, 2048]
        if self.out_strides is not None:
            return {stride: endpoints[stride] for stride in self.out_strides}
        return self.classify(x, train)
