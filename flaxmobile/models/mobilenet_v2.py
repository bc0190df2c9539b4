"""MobileNet V2: inverted residuals with linear bottlenecks.

Paper: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018
(arXiv:1801.04381). The network is its table 2, the block its table 1 and figure 4d.

Where the paper and the reference implementations differ, we follow the implementations (TF-slim
and torchvision, which agree):

- Table 2 gives the stage of 64 channels stride 2 and a 28×28 input; its own output sizes need that
  stride at the stage of 64 and stride 1 at the stage of 96, as here.
- The text counts 19 residual bottlenecks; the table has 17, as here.
- The first block has expansion 1 and then no expansion convolution.
- Widths are rounded to multiples of 8; the last 1×1 convolution does not shrink below alpha 1.
- Dropout 0.2 before the classifier, which table 2 writes as a 1×1 convolution.
- `depth` and `fixed_ends` are those of timm's deeper networks (`mobilenetv2_110d`, `_120d`).
- `split` is section 5.1, memory-efficient inference, which none of the implementations has.
"""

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, NamedTuple

from flax import linen as nn
from jax import Array

from flaxmobile.errors import InputError, check_choice, check_value
from flaxmobile.layers import (
    ACTIVATIONS,
    Activation,
    Block,
    ConvNorm,
    Layer,
    MakeUnit,
    Maps,
    Network,
    Place,
    ScaledNetwork,
    bottleneck_in_parts,
    quantize,
    relu6,
    stage_blocks,
    unit_block,
)


class Stage(NamedTuple):
    """A row of table 2: t, c, n, s."""

    expansion: int
    channels: int
    blocks: int
    stride: int


STAGES = (
    Stage(expansion=1, channels=16, blocks=1, stride=1),
    Stage(expansion=6, channels=24, blocks=2, stride=2),
    Stage(expansion=6, channels=32, blocks=3, stride=2),
    Stage(expansion=6, channels=64, blocks=4, stride=2),
    Stage(expansion=6, channels=96, blocks=3, stride=1),
    Stage(expansion=6, channels=160, blocks=3, stride=2),
    Stage(expansion=6, channels=320, blocks=1, stride=1),
)
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280

ACTIVATED_BY = ("relu6", "relu")
SHORTCUTS = ("bottleneck", "expansion", "projection", "none")


class InvertedResidual(nn.Module):
    """Expand (1×1), filter (depthwise 3×3), project (1×1, linear): table 1, figure 4d.

    Attributes:
      features: output channels.
      expansion: width of the filtered tensor over the input's; 1 leaves the first layer out.
      stride: 1 or 2. Only stride 1 has a shortcut.
      dilation: of the depthwise convolution.
      shortcut: what is added to what (figure 6b):
        "bottleneck" the input to the output where their shapes agree (the paper's choice);
        "expansion" the expanded tensor to the filtered one, between the wide ends;
        "projection" the input through a 1×1 convolution and normalization, in every stride-1 block;
        "none" nothing.
      linear: leave the projection without activation (the paper's choice; figure 6a).
      activation: of the other layers.
      unit: convolution, normalization and activation, with the network's options bound.
    """

    features: int
    expansion: int = 6
    stride: int = 1
    dilation: int = 1
    shortcut: str = "bottleneck"
    linear: bool = True
    activation: Activation = relu6
    unit: Callable[..., nn.Module] = ConvNorm

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map x [n, h, w, c] to [n, ceil(h / stride), ceil(w / stride), features]."""
        check_choice("shortcut", self.shortcut, SHORTCUTS)
        x_in = x
        x = self.bottleneck(x, x.shape[-1] * self.expansion, train)
        if self.stride != 1:
            return x
        if self.shortcut == "projection":
            x_in = self.unit(self.features, name="shortcut")(x_in, train)
            return quantize(x + x_in, "sum_range")
        if self.shortcut == "bottleneck" and x_in.shape == x.shape:
            return quantize(x + x_in, "sum_range")
        return x

    def bottleneck(self, x: Array, hidden_channels: int, train: bool) -> Array:
        """Map x through `hidden_channels`: the block without a shortcut between its narrow ends."""
        if self.expansion != 1:
            x = self.unit(hidden_channels, activation=self.activation, name="expand")(x, train)
        expanded = x  # [n, h, w, expansion * c]
        x = self.depthwise(hidden_channels, name="depthwise")(x, train)
        if self.shortcut == "expansion" and self.stride == 1:
            x = quantize(
                x + expanded, "expanded_sum_range"
            )  # [n, h / stride, w / stride, expansion * c]
        last = None if self.linear else self.activation
        return self.unit(self.features, activation=last, name="project")(x, train)

    def depthwise(self, channels: int, **place: Any) -> nn.Module:
        """Make the depthwise unit for a number of channels."""
        return self.unit(
            channels,
            3,
            stride=self.stride,
            dilation=self.dilation,
            groups=channels,
            activation=self.activation,
            **place,
        )


class SplitInvertedResidual(InvertedResidual):
    """`InvertedResidual` that in inference expands one part of the channels at a time: section 5.1.

    Training, and blocks without expansion, compute all channels at once. The parameters are the
    same, and up to rounding the output.

    Attributes:
      split: number of parts, a divisor of the expanded channels.
      The others: see `InvertedResidual`.
    """

    split: int = 1

    def bottleneck(self, x: Array, hidden_channels: int, train: bool) -> Array:
        """Map x through `hidden_channels`: the block without a shortcut between its narrow ends."""
        fine = self.expansion == 1 or (self.split >= 1 and hidden_channels % self.split == 0)
        check_value("split", self.split, fine, f"a divisor of {hidden_channels} channels")
        if train or self.is_initializing() or 1 in (self.split, self.expansion):
            return super().bottleneck(x, hidden_channels, train)
        return bottleneck_in_parts(self, x, hidden_channels, self.split)


class MobileNetV2(ScaledNetwork):
    """Table 2 of the paper, at any width.

    Attributes:
      shortcut: "bottleneck", or one of the ablations "expansion", "projection" and "none" (figure
        6b).
      linear: leave projections without activation, the paper's choice (figure 6a).
      split: parts of every block's expanded tensor in inference, see `SplitInvertedResidual`; a
        common divisor of their channels.
      depth: multiplier of the number of blocks in every stage but the first and the last, above 0;
        the products are rounded up.
      fixed_ends: the stem has 32 and the last convolution 1280 channels at every alpha.
      activation: "relu6", or "relu" as in torchvision's quantized networks.
      The others: see `ScaledNetwork`.
    """

    shortcut: str = "bottleneck"
    linear: bool = True
    split: int = 1
    depth: float = 1.0
    fixed_ends: bool = False
    activation: str = "relu6"

    quantizes = True
    inverted_residuals = True
    detector_channels = HEAD_CHANNELS
    stages: ClassVar[tuple[Stage, ...]] = STAGES

    def check_options(self) -> None:
        """Raise InputError for an option that the network does not offer."""
        super().check_options()
        check_choice("shortcut", self.shortcut, SHORTCUTS)
        check_choice("activation", self.activation, ACTIVATED_BY)
        check_value("depth", self.depth, 0 < self.depth < math.inf, "any number above 0")
        divisible = math.gcd(
            *(
                self.width(stage.channels) * following.expansion
                for stage, following in itertools.pairwise(self.stages)
            )
        )
        accepted = f"a common divisor of the expanded channels, which are multiples of {divisible}"
        check_value("split", self.split, self.split >= 1 and divisible % self.split == 0, accepted)
        if self.split > 1 and self.quantized:
            raise InputError(f"split is {self.split}; accepted: 1 in a quantized network")
        if self.split > 1 and any("/" in tap for tap in self.taps):
            raise InputError(f"split is {self.split}; accepted: 1 with taps inside blocks")

    def countable(self) -> Network:
        """Return the network with each layer as a whole."""
        return self.clone(split=1)

    @property
    def stem_channels(self) -> int:
        """Output channels of the first convolution."""
        return STEM_CHANNELS if self.fixed_ends else self.width(STEM_CHANNELS)

    @property
    def head_channels(self) -> int:
        """Output channels of the last convolution."""
        return HEAD_CHANNELS if self.fixed_ends else max(HEAD_CHANNELS, self.width(HEAD_CHANNELS))

    def blocks(self) -> list[Block]:
        """List the blocks in order, the stem first."""
        first, *middle, last = self.stages
        deepened = [stage._replace(blocks=math.ceil(self.depth * stage.blocks)) for stage in middle]
        activation = ACTIVATIONS[self.activation]
        stem = unit_block("stem", self.stem_channels, 3, stride=2, activation=activation)
        return [stem, *stage_blocks([first, *deepened, last])]

    def build(self, place: Place, unit: MakeUnit) -> Layer:
        """Make the layer of a block."""
        block = (
            partial(SplitInvertedResidual, split=self.split) if self.split > 1 else InvertedResidual
        )
        return block(
            self.width(place.row.channels),
            place.row.expansion,
            stride=place.geometry.stride,
            dilation=place.geometry.dilation,
            shortcut=self.shortcut if place.stride == 1 else "none",
            linear=self.linear,
            activation=ACTIVATIONS[self.activation],
            unit=unit,
            name=place.name,
        )

    def finish(self, maps: Maps, train: bool) -> Array:
        """Widen the last map [n, h/32, w/32, 320] to 1280 channels and classify it."""
        activation = ACTIVATIONS[self.activation]
        head = self.unit()(self.head_channels, activation=activation, name="head")
        x = self.run(head, maps.last, train)
        return self.classify(x, train)
