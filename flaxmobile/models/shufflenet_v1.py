"""ShuffleNet: grouped 1×1 convolutions, and a shuffle that lets the groups exchange channels.

Paper: Zhang et al., "ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile
Devices", CVPR 2018 (arXiv:1707.01083). The network is its table 1, the units are its figures 2b
and 2c.

Where the paper leaves a choice, we follow the authors' code:

- `variant="megvii"` is their public PyTorch network (`ShuffleNetV1` of
  megvii-model/ShuffleNet-Series), which shuffles after the depthwise convolution instead of before
  it, and the inverse way: every `groups`-th channel comes into a group.
- Bottleneck channels are a quarter of the unit's output channels, also in units of stride 2, whose
  last convolution has only the channels that the shortcut lacks.
- The first 1×1 convolution of stage 2 is not grouped; its output is shuffled all the same.
- The classifier has no bias, and no dropout before it.
- The stem keeps 24 channels between alpha 1 and 2, and is scaled at other widths.

The paper scales all channels ("ShuffleNet s×") and gives no rounding. Here they are rounded to the
nearest multiple of 4 × groups, so that the groups divide every bottleneck, and every stage has more
channels than its shortcut. The stem's are rounded up to a multiple of the groups. The stages'
widths that the authors publish need no rounding.
"""

import math
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from flaxmobile.errors import check_choice, check_value
from flaxmobile.layers import (
    Block,
    ConvNorm,
    Layer,
    MakeUnit,
    Maps,
    Max,
    Place,
    ScaledNetwork,
    avg_pool,
    channel_shuffle,
    relu,
    stage_blocks,
    unit_block,
)
from flaxmobile.ops import materialize_on_cpu


class Stage(NamedTuple):
    """Units of equal width: the first has the stride."""

    channels: int
    blocks: int
    stride: int = 2


CHANNELS = {
    1: (144, 288, 576),
    2: (200, 400, 800),
    3: (240, 480, 960),
    4: (272, 544, 1088),
    8: (384, 768, 1536),
}
"""Table 1: groups -> output channels of stages 2, 3 and 4."""
UNITS = (4, 8, 4)
"""Units of stages 2, 3 and 4; the first of each has stride 2."""
STEM_CHANNELS = 24
VARIANTS = ("paper", "megvii")
BOTTLENECK = 4
"""Output channels of a unit over its bottleneck's."""


def stem_channels(groups: int, alpha: float) -> int:
    """Output channels of the stem at a width: as the authors publish at 0.5, 1.0, 1.5 and 2.0."""
    scale = 1.0 if 1 < alpha < 2 else alpha
    return math.ceil(STEM_CHANNELS * scale / groups) * groups


def stage_channels(groups: int, alpha: float) -> tuple[int, ...]:
    """Output channels of stages 2, 3 and 4 at a width."""
    unit = BOTTLENECK * groups
    widths = [stem_channels(groups, alpha)]
    for channels in CHANNELS[groups]:
        units = round(channels * alpha / unit)
        widths.append(max(units, widths[-1] // unit + 1) * unit)
    return tuple(widths[1:])


class ShuffleNetUnit(nn.Module):
    """Reduce (grouped 1×1), shuffle, filter (depthwise 3×3), expand (grouped 1×1): figure 2b.

    A unit that changes the number of channels appends its result to the averaged input instead of
    adding the two: figure 2c. ReLU follows in both cases.

    Attributes:
      features: output channels, a multiple of 4 × groups.
      groups: of the last 1×1 convolution and of the shuffle.
      first_groups: of the first 1×1 convolution; None for `groups`.
      stride: 1 or 2.
      dilation: of the depthwise convolution and of the average.
      variant: "paper" or "megvii", which say where and how channels are shuffled.
      padding: of the average; with "SAME" it excludes padded pixels, as in TensorFlow.
      unit: convolution, normalization and activation, with the network's options bound.
    """

    features: int
    groups: int = 3
    first_groups: int | None = None
    stride: int = 1
    dilation: int = 1
    variant: str = "paper"
    padding: str = "symmetric"
    unit: Callable[..., nn.Module] = ConvNorm

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map x [n, h, w, c] to [n, ceil(h / stride), ceil(w / stride), features]."""
        x_in, hidden_channels = x, self.features // BOTTLENECK
        appends = self.stride != 1 or x.shape[-1] != self.features
        first = self.groups if self.first_groups is None else self.first_groups
        x = self.unit(hidden_channels, groups=first, activation=relu, name="reduce")(x, train)
        if self.variant == "paper":
            x = channel_shuffle(x, self.groups)
        x = self.unit(
            hidden_channels,
            3,
            stride=self.stride,
            dilation=self.dilation,
            groups=hidden_channels,
            name="depthwise",
        )(x, train)  # [n, h / stride, w / stride, features / 4]
        if self.variant == "megvii":
            x = channel_shuffle(x, hidden_channels // self.groups)
        out_channels = self.features - x_in.shape[-1] if appends else self.features
        x = self.unit(out_channels, groups=self.groups, name="expand")(x, train)
        if not appends:
            return materialize_on_cpu(relu(x_in + x))
        averaged = avg_pool(
            x_in,
            3,
            self.stride,
            self.padding,
            dilation=self.dilation,
            count_padding=self.padding != "SAME",
        )
        return materialize_on_cpu(relu(jnp.concatenate([averaged, x], axis=-1)))


class ShuffleNetV1(ScaledNetwork):
    """Table 1 of the paper.

    Attributes:
      alpha: width multiplier, above 0; the paper has 0.25, 0.5, 1.0, 1.5 and 2.0.
      groups: of the 1×1 convolutions: 1, 2, 3, 4 or 8; the more groups, the more channels.
      variant: "paper" or "megvii".
      The others: see `Network`.
    """

    groups: int = 3
    variant: str = "paper"
    dropout_rate: float = 0.0

    units: ClassVar[tuple[int, int, int]] = UNITS

    def check_options(self) -> None:
        """Raise InputError for an option that the network does not offer."""
        super().check_options()
        check_value("groups", self.groups, self.groups in CHANNELS, ", ".join(map(str, CHANNELS)))
        check_choice("variant", self.variant, VARIANTS)

    def blocks(self) -> list[Block]:
        """List the stem, the pooling after it and the units, in order."""
        widths = stage_channels(self.groups, self.alpha)
        stages = [Stage(*stage) for stage in zip(widths, self.units, strict=True)]
        stem = unit_block("stem", stem_channels(self.groups, self.alpha), 3, stride=2)
        pool = Block("pool", Max(3, 2, self.window_padding), stride=2)
        return [stem, pool, *stage_blocks(stages, first=2)]

    def build(self, place: Place, unit: MakeUnit) -> Layer:
        """Make the layer of a block."""
        return ShuffleNetUnit(
            place.row.channels,
            self.groups,
            first_groups=1 if place.name == "stage2_block1" else None,
            stride=place.geometry.stride,
            dilation=place.geometry.dilation,
            variant=self.variant,
            padding=self.window_padding,
            unit=unit,
            name=place.name,
        )

    def finish(self, maps: Maps, train: bool) -> Array:
        """Pool and classify the last map, without a bias."""
        return self.logits(self.pool(maps.last), train, use_bias=False)
