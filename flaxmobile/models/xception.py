"""Xception: depthwise separable convolutions with shortcuts.

Paper: Chollet, "Xception: Deep Learning with Depthwise Separable Convolutions", CVPR 2017
(arXiv:1610.02357). The network is its figure 5.

The paper's implementation, Keras and timm agree except for two numbers, which are options here:
timm (its `legacy_xception`, our default) pads symmetrically and has an epsilon of 1e-5, Keras pads
as TensorFlow does (`padding="same"`) and has 1e-3. Neither has the fully connected layers that
figure 5 calls optional.
"""

from collections.abc import Callable
from functools import partial
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from flaxmobile.errors import check_choice, check_value
from flaxmobile.layers import (
    Activation,
    Block,
    Conv,
    ConvNorm,
    Layer,
    MakeUnit,
    Place,
    ScaledNetwork,
    max_pool,
    relu,
    thin_channels,
    unit_block,
)
from flaxmobile.ops import Padding

ORDERS = ("depthwise_first", "pointwise_first")
STEM_CHANNELS = (32, 64)
EXIT_CHANNELS = (1536, 2048)


class Module(NamedTuple):
    """A module of figure 5, with a shortcut around it.

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


def modules(middle_blocks: int) -> list[Module]:
    """List the rows of figure 5 between the stem and the last two separable convolutions."""
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
      activation: after the normalization.
      padding: of the 3×3 convolution.
      unit: convolution, normalization and activation, with the network's options bound.
      dtype: type of the arithmetic.
    """

    features: int
    order: str = "depthwise_first"
    activation: Activation | None = None
    padding: Padding = "symmetric"
    unit: Callable[..., nn.Module] = ConvNorm
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map x [n, h, w, c] to [n, h, w, features]."""
        check_choice("order", self.order, ORDERS)
        unit = partial(self.unit, self.features, activation=self.activation)
        if self.order == "pointwise_first":
            x = Conv(self.features, use_bias=False, dtype=self.dtype, name="pointwise")(x)
            return unit(3, groups=self.features, name="depthwise")(x, train)
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
        return unit(name="pointwise")(x, train)


class XceptionModule(nn.Module):
    """Separable convolutions with a shortcut around them: the boxes of figure 5.

    Attributes:
      channels, stride, activate_first: see `Module`.
      padding: of the pooling.
      separable: makes its separable convolutions, with the network's options bound.
      unit: makes the convolution and normalization of the shortcut, likewise.
    """

    channels: tuple[int, ...]
    stride: int = 1
    activate_first: bool = True
    padding: Padding = "symmetric"
    separable: Callable[..., nn.Module] = SeparableConv
    unit: Callable[..., nn.Module] = ConvNorm

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map x [n, h, w, c] to [n, ceil(h / stride), ceil(w / stride), channels[-1]]."""
        shortcut = x
        if self.stride != 1 or x.shape[-1] != self.channels[-1]:
            shortcut = self.unit(self.channels[-1], stride=self.stride, name="shortcut")(x, train)
        for number, features in enumerate(self.channels, start=1):
            if number > 1 or self.activate_first:
                x = relu(x)
            x = self.separable(features, name=f"separable{number}")(x, train)
        if self.stride != 1:
            x = max_pool(x, 3, self.stride, self.padding)
        return x + shortcut


class Xception(ScaledNetwork):
    """Figure 5 of the paper. A backbone's maps of stride 4 to 16 are those before the ReLU.

    Attributes:
      alpha: width multiplier, above 0; no layer is thinner than 16 channels.
      middle_blocks: how often the middle flow is repeated.
      order: "depthwise_first" (TensorFlow's), or "pointwise_first", an extreme Inception module.
      The others: see `Network`. `output_stride` is 32.
    """

    middle_blocks: int = 8
    order: str = "depthwise_first"
    dropout_rate: float = 0.5

    min_image_size: ClassVar[int] = 71
    dilates: ClassVar[bool] = False

    def check_options(self) -> None:
        """Raise InputError for an option that the network does not offer."""
        super().check_options()
        check_value("middle_blocks", self.middle_blocks, self.middle_blocks >= 0, "0 or more")
        check_choice("order", self.order, ORDERS)

    def width(self, channels: float) -> int:
        """Scale a width of the figure, to at least 16."""
        return thin_channels(channels, self.alpha)

    def blocks(self) -> list[Block]:
        """List stem, modules and the last separable convolutions, in order."""
        stem1, stem2 = STEM_CHANNELS
        exits = enumerate(EXIT_CHANNELS, start=1)
        return [
            unit_block("stem_conv1", self.width(stem1), 3, stride=2, valid=True),
            unit_block("stem_conv2", self.width(stem2), 3, valid=True),
            *(Block(module.name, module, module.stride) for module in modules(self.middle_blocks)),
            *(Block(f"exit_separable{number}", self.width(width)) for number, width in exits),
        ]

    def build(self, place: Place, unit: MakeUnit) -> Layer:
        """Make the layer of a block."""
        name, row, padding = place.name, place.row, self.window_padding
        separable = partial(
            SeparableConv, order=self.order, padding=padding, unit=unit, dtype=self.dtype
        )
        if not isinstance(row, Module):
            return separable(row, activation=relu, name=name)
        channels = tuple(map(self.width, row.channels))
        return XceptionModule(
            channels, row.stride, row.activate_first, padding, separable, unit, name=name
        )
