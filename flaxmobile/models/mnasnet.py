"""MnasNet-B1: the network that a search for accuracy at a phone's latency found.

Paper: Tan et al., "MnasNet: Platform-Aware Neural Architecture Search for Mobile", CVPR 2019
(arXiv:1807.11626). The network is the one without squeeze-excite that the paper's table 1 lists as
MnasNet-B1 and MobileNet V3 starts from; its blocks are figure 7b to 7d.

Where the paper and torchvision differ, we follow torchvision:

- The paper draws the layers of A1 (figure 7a) and not those of B1; ours are torchvision's.
- Widths, the stem's included, are rounded to multiples of 8; the last 1×1 convolution has 1280
  channels at every alpha.
- BatchNorm keeps 0.9997 of the old statistics at each step, the paper's number for TensorFlow.
- Dropout 0.2 before the classifier.
"""

from collections.abc import Callable
from typing import ClassVar, NamedTuple

from flax import linen as nn
from jax import Array

from flaxmobile.layers import (
    Activation,
    Block,
    ConvNorm,
    Layer,
    MakeUnit,
    Maps,
    Place,
    ScaledNetwork,
    relu,
    stage_blocks,
    unit_block,
)


class Stage(NamedTuple):
    """A row of the network: blocks of one kind."""

    expansion: int
    kernel: int
    channels: int
    blocks: int
    stride: int


STAGES = (
    Stage(expansion=1, kernel=3, channels=16, blocks=1, stride=1),
    Stage(expansion=3, kernel=3, channels=24, blocks=3, stride=2),
    Stage(expansion=3, kernel=5, channels=40, blocks=3, stride=2),
    Stage(expansion=6, kernel=5, channels=80, blocks=3, stride=2),
    Stage(expansion=6, kernel=3, channels=96, blocks=2, stride=1),
    Stage(expansion=6, kernel=5, channels=192, blocks=4, stride=2),
    Stage(expansion=6, kernel=3, channels=320, blocks=1, stride=1),
)
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280


class MBConv(nn.Module):
    """Expand (1×1), filter (depthwise), project (1×1, linear): figures 7b and 7c.

    With expansion 1 and without shortcut it is the paper's SepConv (figure 7d).

    Attributes:
      features: output channels.
      expansion: width of the filtered tensor over the input's; 1 leaves the first layer out.
      kernel_size: of the depthwise convolution, 3 or 5 in the paper.
      stride: 1 or 2.
      dilation: of the depthwise convolution.
      shortcut: add the input to the output where their shapes agree.
      activation: of all layers but the last.
      unit: convolution, normalization and activation, with the network's options bound.
    """

    features: int
    expansion: int = 3
    kernel_size: int = 3
    stride: int = 1
    dilation: int = 1
    shortcut: bool = True
    activation: Activation = relu
    unit: Callable[..., nn.Module] = ConvNorm

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
        x = self.unit(self.features, name="project")(x, train)
        return x + x_in if self.shortcut and x.shape == x_in.shape else x


class MnasNet(ScaledNetwork):
    """MnasNet-B1 as in torchvision, at any width.

    Attributes:
      alpha: width multiplier, above 0; torchvision publishes 0.5, 0.75, 1.0 and 1.3.
      The others: see `Network`.
    """

    norm_momentum: float = 0.9997

    stages: ClassVar[tuple[Stage, ...]] = STAGES

    def blocks(self) -> list[Block]:
        """List the blocks in order, the stem first."""
        stem = unit_block("stem", self.width(STEM_CHANNELS), 3, stride=2)
        return [stem, *stage_blocks(self.stages)]

    def build(self, place: Place, unit: MakeUnit) -> Layer:
        """Make the layer of a block."""
        stage = place.row
        return MBConv(
            self.width(stage.channels),
            stage.expansion,
            stage.kernel,
            stride=place.geometry.stride,
            dilation=place.geometry.dilation,
            # Where narrow widths round to the same number, SepConv still has no shortcut.
            shortcut=place.stride == 1 and stage.expansion != 1,
            unit=unit,
            name=place.name,
        )

    def finish(self, maps: Maps, train: bool) -> Array:
        """Widen the last map [n, h/32, w/32, c] to 1280 channels and classify it."""
        x = self.run(self.unit()(HEAD_CHANNELS, activation=relu, name="head"), maps.last, train)
        return self.classify(x, train)
