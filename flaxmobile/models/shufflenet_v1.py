"""ShuffleNet: grouped 1×1 convolutions, and a shuffle that lets the groups exchange channels.

Paper: Zhang et al., "ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile
Devices", CVPR 2018 (arXiv:1707.01083). The network is its table 1, the units are its figures 2b
and 2c.

Where the paper leaves a choice, we follow the authors' code:

- `variant="megvii"` is their public PyTorch network (`ShuffleNetV1` of
  megvii-model/ShuffleNet-Series), which shuffles after the depthwise convolution instead of before
  it, and the inverse way: every `groups`-th channel comes into a group.
- Bottleneck channels are a quarter of the unit's output channels, also in units of stride 2, whose
  last convolution gives only what the shortcut does not bring.
- The first 1×1 convolution of stage 2 is not grouped; its output is shuffled all the same.
- The classifier has no bias, and no dropout before it.
- The stem keeps 24 channels between alpha 1 and 2, and is scaled at other widths.

The paper scales all channels ("ShuffleNet s×") and gives no rounding. Ours are rounded to the
nearest multiple of 4 × groups, so that the groups divide every bottleneck, and every stage has more
channels than its shortcut brings; the stem's up to a multiple of the groups. The stages' widths
that the authors publish need no rounding.
"""

import math
from collections.abc import Callable
from typing import ClassVar

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from flaxmobile.errors import InputError, unknown
from flaxmobile.layers import (
    ConvNorm,
    Network,
    avg_pool,
    channel_shuffle,
    max_pool,
    plan_strides,
    relu,
)
from flaxmobile.ops import materialize_on_cpu

CHANNELS = {
    1: (144, 288, 576),
    2: (200, 400, 800),
    3: (240, 480, 960),
    4: (272, 544, 1088),
    8: (384, 768, 1536),
}
"""Table 1: groups -> output channels of stages 2, 3 and 4."""
BLOCKS = (4, 8, 4)
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
    adding the two: figure 2c. ReLU follows either.

    Attributes:
      features: output channels, a multiple of 4 × groups.
      groups: of the last 1×1 convolution and of the shuffle.
      first_groups: of the first 1×1 convolution; None for `groups`.
      stride: 1 or 2.
      dilation: of the depthwise convolution and of the average.
      variant: "paper" or "megvii", which say where and how channels are shuffled.
      padding: of the average; the mean of "SAME" leaves padded pixels out, as in TensorFlow.
      conv: the convolution unit, with the network's options bound.
    """

    features: int
    groups: int = 3
    first_groups: int | None = None
    stride: int = 1
    dilation: int = 1
    variant: str = "paper"
    padding: str = "symmetric"
    conv: Callable[..., nn.Module] = ConvNorm

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map x [n, h, w, c] to [n, ceil(h / stride), ceil(w / stride), features]."""
        given, narrow = x, self.features // BOTTLENECK
        appends = self.stride != 1 or x.shape[-1] != self.features
        first = self.groups if self.first_groups is None else self.first_groups
        x = self.conv(narrow, groups=first, activation=relu, name="reduce")(x, train)
        if self.variant == "paper":
            x = channel_shuffle(x, self.groups)
        x = self.conv(
            narrow,
            3,
            stride=self.stride,
            dilation=self.dilation,
            groups=narrow,
            name="depthwise",
        )(x, train)  # [n, h / stride, w / stride, features / 4]
        if self.variant == "megvii":
            x = channel_shuffle(x, narrow // self.groups)
        added = self.features - given.shape[-1] if appends else self.features
        x = self.conv(added, groups=self.groups, name="expand")(x, train)
        if not appends:
            return materialize_on_cpu(relu(given + x))
        averaged = avg_pool(
            given,
            3,
            self.stride,
            self.padding,
            dilation=self.dilation,
            count_padding=self.padding != "SAME",
        )
        return materialize_on_cpu(relu(jnp.concatenate([averaged, x], axis=-1)))


class ShuffleNetV1(Network):
    """Table 1 of the paper.

    Attributes:
      alpha: width multiplier, above 0; the paper has 0.25, 0.5, 1.0, 1.5 and 2.0.
      groups: of the 1×1 convolutions: 1, 2, 3, 4 or 8; the more groups, the more channels.
      variant: "paper" or "megvii".
      The others: see `Network`.
    """

    alpha: float = 1.0
    groups: int = 3
    variant: str = "paper"
    dropout_rate: float = 0.0

    blocks: ClassVar[tuple[int, int, int]] = BLOCKS

    def check(self) -> None:
        """Raise InputError for an option that the network does not offer."""
        super().check()
        if not 0 < self.alpha < math.inf:
            raise InputError(f"alpha is {self.alpha}; accepted: any number above 0")
        if self.groups not in CHANNELS:
            offered = ", ".join(map(str, CHANNELS))
            raise InputError(f"groups is {self.groups}; accepted: {offered}")
        if self.variant not in VARIANTS:
            raise unknown("variant", self.variant, VARIANTS)

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Array | dict[int, Array]:
        """Map images [n, h, w, 3] to logits [n, num_classes], or to {stride: features}."""
        self.check()
        conv = self.conv_norm()
        x = self.check_images(images)
        stem = stem_channels(self.groups, self.alpha)
        x = conv(stem, 3, stride=2, activation=relu, name="stem")(x, train)
        endpoints = {2: x}  # [n, h/2, w/2, 24]
        if self.deepest_stride > 2:
            x = endpoints[4] = max_pool(x, 3, 2, conv.keywords["padding"])  # [n, h/4, w/4, 24]
        widths = stage_channels(self.groups, self.alpha)
        units = [
            (f"stage{number}_block{block}", features, 2 if block == 1 else 1)
            for number, (features, blocks) in enumerate(
                zip(widths, self.blocks, strict=True), start=2
            )
            for block in range(1, blocks + 1)
        ]
        steps = plan_strides((stride for *_, stride in units), self.output_stride, before=4)
        for (name, features, _), step in zip(units, steps, strict=True):
            if step.total > self.deepest_stride:
                break
            x = endpoints[step.total] = ShuffleNetUnit(
                features,
                self.groups,
                first_groups=1 if name == "stage2_block1" else None,
                stride=step.stride,
                dilation=step.dilation,
                variant=self.variant,
                padding=conv.keywords["padding"],
                conv=conv,
                name=name,
            )(x, train)
        if self.out_strides is not None:
            return {stride: endpoints[stride] for stride in self.out_strides}
        x = self.pool(x)
        return x if self.num_classes == 0 else self.logits(x, train, use_bias=False)
