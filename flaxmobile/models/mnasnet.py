"""MnasNet: networks that a search for accuracy at a phone's latency found.

Paper: Tan et al., "MnasNet: Platform-Aware Neural Architecture Search for Mobile", CVPR 2019
(arXiv:1807.11626). B1 is the network without squeeze-excite of its table 1, from which MobileNet V3
starts; A1, with squeeze-excite, is its figure 7a; the blocks are figures 7b to 7d. "small" is the
authors' code's alone (tensorflow/tpu, `mnasnet_small`).

Where the paper and the implementations (torchvision, timm) differ, we follow the implementations:

- The paper does not draw the layers of B1; ours are torchvision's.
- Squeeze-excite keeps a quarter of a block's input channels, not of its expanded ones, and ends
  with a sigmoid, as in the authors' code and timm.
- Widths, the stem's included, are rounded to multiples of 8; the last 1×1 convolution has 1280
  channels at every alpha.
- BatchNorm keeps 0.9997 of the old statistics at each step, the paper's number for TensorFlow.
- Dropout 0.2 before the classifier.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from flaxmobile.errors import check_choice
from flaxmobile.layers import (
    Activation,
    Block,
    ConvNorm,
    Layer,
    MakeUnit,
    Maps,
    Place,
    ScaledNetwork,
    SqueezeExcite,
    quantize,
    relu,
    stage_blocks,
    unit_block,
)


class Stage(NamedTuple):
    """A row of a network: blocks of one kind."""

    expansion: int
    kernel: int
    channels: int
    blocks: int
    stride: int
    squeeze: bool = False
    shortcut: bool = True


class Table(NamedTuple):
    """A network: the width of its stem, and its stages."""

    stem: int
    stages: tuple[Stage, ...]


B1 = Table(
    stem=32,
    stages=(
        Stage(expansion=1, kernel=3, channels=16, blocks=1, stride=1, shortcut=False),
        Stage(expansion=3, kernel=3, channels=24, blocks=3, stride=2),
        Stage(expansion=3, kernel=5, channels=40, blocks=3, stride=2),
        Stage(expansion=6, kernel=5, channels=80, blocks=3, stride=2),
        Stage(expansion=6, kernel=3, channels=96, blocks=2, stride=1),
        Stage(expansion=6, kernel=5, channels=192, blocks=4, stride=2),
        Stage(expansion=6, kernel=3, channels=320, blocks=1, stride=1),
    ),
)
A1 = Table(
    stem=32,
    stages=(
        Stage(expansion=1, kernel=3, channels=16, blocks=1, stride=1, shortcut=False),
        Stage(expansion=6, kernel=3, channels=24, blocks=2, stride=2),
        Stage(expansion=3, kernel=5, channels=40, blocks=3, stride=2, squeeze=True),
        Stage(expansion=6, kernel=3, channels=80, blocks=4, stride=2),
        Stage(expansion=6, kernel=3, channels=112, blocks=2, stride=1, squeeze=True),
        Stage(expansion=6, kernel=5, channels=160, blocks=3, stride=2, squeeze=True),
        Stage(expansion=6, kernel=3, channels=320, blocks=1, stride=1),
    ),
)
SMALL = Table(
    stem=8,
    stages=(
        Stage(expansion=1, kernel=3, channels=8, blocks=1, stride=1),
        Stage(expansion=3, kernel=3, channels=16, blocks=1, stride=2),
        Stage(expansion=6, kernel=3, channels=16, blocks=2, stride=2),
        Stage(expansion=6, kernel=5, channels=32, blocks=4, stride=2, squeeze=True),
        Stage(expansion=6, kernel=3, channels=32, blocks=3, stride=1, squeeze=True),
        Stage(expansion=6, kernel=5, channels=88, blocks=3, stride=2, squeeze=True),
        Stage(expansion=6, kernel=3, channels=144, blocks=1, stride=1),
    ),
)
TABLES: Mapping[str, Table] = MappingProxyType({"b1": B1, "a1": A1, "small": SMALL})
"""Variant -> its network."""

HEAD_CHANNELS = 1280


class MBConv(nn.Module):
    """Expand (1×1), filter (depthwise), squeeze and excite, project (1×1, linear): figure 7b, 7c.

    With expansion 1 and without shortcut it is the paper's SepConv (figure 7d).

    Attributes:
      features: output channels.
      expansion: width of the filtered tensor over the input's; 1 leaves the first layer out.
      kernel_size: of the depthwise convolution, 3 or 5 in the paper.
      stride: 1 or 2.
      dilation: of the depthwise convolution.
      squeeze: has squeeze-excite.
      shortcut: add the input to the output where their shapes agree.
      activation: of all layers but the last.
      unit: convolution, normalization and activation, with the network's options bound.
      dtype: type of the arithmetic of squeeze-excite.
    """

    features: int
    expansion: int = 3
    kernel_size: int = 3
    stride: int = 1
    dilation: int = 1
    squeeze: bool = False
    shortcut: bool = True
    activation: Activation = relu
    unit: Callable[..., nn.Module] = ConvNorm
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map x [n, h, w, c] to [n, ceil(h / stride), ceil(w / stride), features]."""
        x_in, hidden_channels = x, x.shape[-1] * self.expansion
        if self.expansion != 1:
            x = self.unit(hidden_channels, activation=self.activation, name="expand")(x, train)
        x = self.unit(
            hidden_channels,
            self.kernel_size,
            stride=self.stride,
            dilation=self.dilation,
            groups=hidden_channels,
            activation=self.activation,
            name="depthwise",
        )(x, train)  # [n, h / stride, w / stride, expansion * c]
        if self.squeeze:
            x = SqueezeExcite(
                x_in.shape[-1] // 4, gate=nn.sigmoid, dtype=self.dtype, name="squeeze"
            )(x)
        x = self.unit(self.features, name="project")(x, train)
        if self.shortcut and x.shape == x_in.shape:
            return quantize(x + x_in, "sum_range")
        return x


class MnasNet(ScaledNetwork):
    """A network of the search, at any width.

    Attributes:
      variant: "b1", "a1" or "small", see `TABLES`.
      alpha: width multiplier, above 0; torchvision publishes B1 at 0.5, 0.75, 1.0 and 1.3.
      The others: see `Network`.
    """

    variant: str = "b1"
    norm_momentum: float = 0.9997

    quantizes = True
    inverted_residuals = True
    detector_channels = HEAD_CHANNELS
    tables: ClassVar[Mapping[str, Table]] = TABLES

    def check_options(self) -> None:
        """Raise InputError for an option that the network does not offer."""
        super().check_options()
        check_choice("variant", self.variant, tuple(self.tables))

    @property
    def table(self) -> Table:
        """The variant's table."""
        return self.tables[self.variant]

    def blocks(self) -> list[Block]:
        """List the blocks in order, the stem first."""
        stem = unit_block("stem", self.width(self.table.stem), 3, stride=2)
        return [stem, *stage_blocks(self.table.stages)]

    def build(self, place: Place, unit: MakeUnit) -> Layer:
        """Make the layer of a block."""
        stage = place.row
        return MBConv(
            self.width(stage.channels),
            stage.expansion,
            stage.kernel,
            stride=place.geometry.stride,
            dilation=place.geometry.dilation,
            squeeze=stage.squeeze,
            shortcut=place.stride == 1 and stage.shortcut,
            unit=unit,
            dtype=self.dtype,
            name=place.name,
        )

    def finish(self, maps: Maps, train: bool) -> Array:
        """Widen the last map [n, h/32, w/32, c] to 1280 channels and classify it."""
        x = self.run(self.unit()(HEAD_CHANNELS, activation=relu, name="head"), maps.last, train)
        return self.classify(x, train)
