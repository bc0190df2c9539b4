"""MobileNeXt: sandglass blocks, whose shortcuts join the wide ends.

Paper: Zhou et al., "Rethinking Bottleneck Structure for Efficient Mobile Network Design", ECCV 2020
(arXiv:2007.02269). The network is its table 2, the block its table 1.

Where the paper and the authors' code differ, we follow the code (`mnext` of
yitu-opensource/MobileNeXt). Some counts that they publish are not those of the code, which has 11
percent more parameters at 0.75.

- The stage of 960 channels has three blocks; table 2 has two, which the authors call a typo.
- Blocks that change the number of channels have fewer depthwise convolutions: none at stride 1,
  only the last at stride 2. With `keep_3x3` they have both; the code uses it in the two stages of
  one block, of 144 and of 1280 channels.
- A bottleneck has at least a sixth of the output's channels, rounded to a multiple of 16.
- The last block does not shrink below alpha 1; dropout 0.2 follows it.

At small widths, rounding can give a block of stride 2 as many output channels as input channels.
Here it shrinks and has no shortcut, as in the paper; the code ignores its stride.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from flaxmobile.errors import check_value
from flaxmobile.layers import (
    Activation,
    Block,
    ConvNorm,
    Layer,
    MakeUnit,
    Place,
    ScaledNetwork,
    depthwise_unit,
    quantize,
    relu6,
    round_channels,
    stage_blocks,
    unit_block,
)


class Stage(NamedTuple):
    """A row of table 2: t, c, b, s, and whether it has all depthwise convolutions."""

    reduction: int
    channels: int
    blocks: int
    stride: int
    keep_3x3: bool = False


STAGES = (
    Stage(reduction=2, channels=96, blocks=1, stride=2),
    Stage(reduction=6, channels=144, blocks=1, stride=1, keep_3x3=True),
    Stage(reduction=6, channels=192, blocks=3, stride=2),
    Stage(reduction=6, channels=288, blocks=3, stride=2),
    Stage(reduction=6, channels=384, blocks=4, stride=1),
    Stage(reduction=6, channels=576, blocks=4, stride=2),
    Stage(reduction=6, channels=960, blocks=3, stride=1),
    Stage(reduction=6, channels=1280, blocks=1, stride=1, keep_3x3=True),
)
STEM_CHANNELS = 32


def stage_channels(alpha: float) -> tuple[int, ...]:
    """Output channels of the stages at a width: the last is never thinner than at 1."""
    widths = [stage.channels * alpha for stage in STAGES]
    widths[-1] = max(widths[-1], STAGES[-1].channels)
    return tuple(map(round_channels, widths))


def has_depthwise(
    channels: int, features: int, reduction: int, stride: int, keep_3x3: bool
) -> tuple[bool, bool]:
    """Return whether a block has the first, and the last, depthwise convolution."""
    both = reduction == 2 or channels == features or keep_3x3
    return both, both or stride == 2


class Sandglass(nn.Module):
    """Filter (depthwise 3×3), reduce (1×1, linear), expand (1×1), filter (linear): table 1.

    It has one of four forms:

    1. reduction 2, the first block: both depthwise convolutions, no shortcut;
    2. a change of channels at stride 1: only the two 1×1 convolutions;
    3. a change of channels at stride 2: these and the last depthwise convolution;
    4. otherwise, and with `keep_3x3`: both depthwise convolutions, and the shortcut, which
       `keep_3x3` and stride 2 leave out.

    Attributes:
      features: output channels.
      reduction: input channels over the bottleneck's, which has at least a sixth of `features`.
      stride: 1 or 2, of the last depthwise convolution.
      keep_3x3: take the fourth form, without shortcut.
      shrinks: apply the stride; if False, `stride` selects the form but the size stays.
      dilation: of the depthwise convolutions.
      identity_tensor_multiplier: share of the channels, the first ones, that have the shortcut.
      activation: of the layers that are not linear.
      unit: convolution, normalization and activation, with the network's options bound.
    """

    features: int
    reduction: int = 6
    stride: int = 1
    keep_3x3: bool = False
    shrinks: bool = True
    dilation: int = 1
    identity_tensor_multiplier: float = 1.0
    activation: Activation = relu6
    unit: Callable[..., nn.Module] = ConvNorm

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map x [n, h, w, c] to [n, ceil(h / stride), ceil(w / stride), features]."""
        x_in, channels, unit = x, x.shape[-1], partial(self.unit, dilation=self.dilation)
        first, last = has_depthwise(
            channels, self.features, self.reduction, self.stride, self.keep_3x3
        )
        if first:
            x = depthwise_unit(unit, x, train, activation=self.activation, name="depthwise1")
        hidden = channels // self.reduction
        if hidden < self.features / 6:
            hidden = round_channels(math.ceil(self.features / 6), 16)
        x = self.unit(hidden, name="reduce")(x, train)  # [n, h, w, hidden]
        x = self.unit(self.features, activation=self.activation, name="expand")(x, train)
        if last:
            stride = self.stride if self.shrinks else 1
            x = depthwise_unit(unit, x, train, stride=stride, name="depthwise2")
        same = channels == self.features and self.stride == 1
        if self.reduction == 2 or self.keep_3x3 or not same:
            return x
        shared = round(channels * self.identity_tensor_multiplier)
        if shared == channels:
            return quantize(x + x_in, "sum_range")
        return jnp.concatenate([x[..., :shared] + x_in[..., :shared], x[..., shared:]], axis=-1)


class MobileNeXt(ScaledNetwork):
    """Table 2 of the paper, at any width.

    Attributes:
      alpha: width multiplier, above 0; the paper has 0.35, 0.5, 0.75, 1.0 and 1.4.
      identity_tensor_multiplier: share of a block's channels that have the shortcut, 0 to 1.
      The others: see `Network`.
    """

    identity_tensor_multiplier: float = 1.0

    quantizes = True
    stages: ClassVar[tuple[Stage, ...]] = STAGES

    def check_options(self) -> None:
        """Raise InputError for an option that the network does not offer."""
        super().check_options()
        share = self.identity_tensor_multiplier
        least = 1 if self.quantized else 0
        range_text = "1 in a quantized network" if self.quantized else "0 to 1"
        check_value("identity_tensor_multiplier", share, least <= share <= 1, range_text)

    def blocks(self) -> list[Block]:
        """List the blocks in order, the stem first; the row of each is its stage, scaled."""
        stages = zip(self.stages, stage_channels(self.alpha), strict=True)
        scaled = [stage._replace(channels=channels) for stage, channels in stages]
        stem = unit_block("stem", self.width(STEM_CHANNELS), 3, stride=2, activation=relu6)
        return [stem, *stage_blocks(scaled)]

    def build(self, place: Place, unit: MakeUnit) -> Layer:
        """Make the layer of a block."""
        return Sandglass(
            place.row.channels,
            place.row.reduction,
            stride=place.stride,
            keep_3x3=place.row.keep_3x3,
            shrinks=place.geometry.stride == place.stride,
            dilation=place.geometry.dilation,
            identity_tensor_multiplier=self.identity_tensor_multiplier,
            unit=unit,
            name=place.name,
        )
