"""ShuffleNet V2: units designed for little memory traffic instead of few multiply-adds.

Paper: Ma et al., "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design", ECCV
2018 (arXiv:1807.11164). The network is its table 5, the units are its figures 3c and 3d.

Where the paper and torchvision differ, we follow torchvision:

- Table 5's "Conv5", the 1×1 convolution after the last stage, is `head`; no dropout follows.
- `variant="megvii"` is the authors' public PyTorch network (`ShuffleNetV2` of
  megvii-model/ShuffleNet-Series). Its units do not shuffle their output; those of stride 1 pass the
  even channels and transform the odd ones. Where the size changes, the shortcut keeps its number of
  channels, which is not half of stage 2's. The classifier has no bias; at 2.0 it was trained with
  dropout 0.2 before it.
- The deeper variant with squeeze-excite and residuals (table 8) is not offered.
"""

from collections.abc import Callable
from functools import partial
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
    channel_shuffle,
    depthwise_unit,
    keep_steps,
    quantize,
    relu,
    stage_blocks,
    unit_block,
)
from flaxmobile.models.shufflenet_v1 import STEM_CHANNELS, UNITS, Stage


class Widths(NamedTuple):
    """A column of table 5: output channels of stages 2, 3 and 4 and of the last convolution."""

    stages: tuple[int, int, int]
    head: int


WIDTHS = {
    0.5: Widths(stages=(48, 96, 192), head=1024),
    1.0: Widths(stages=(116, 232, 464), head=1024),
    1.5: Widths(stages=(176, 352, 704), head=1024),
    2.0: Widths(stages=(244, 488, 976), head=2048),
}
VARIANTS = ("torchvision", "megvii")


class ShuffleUnit(nn.Module):
    """Half of the channels pass, half are transformed, then all are shuffled: figure 3c.

    Where the number of channels or the size changes, both branches transform the whole input:
    figure 3d.

    Attributes:
      features: output channels, even.
      stride: 1 or 2.
      dilation: of the depthwise convolutions.
      variant: "torchvision" or "megvii", which say how channels are divided.
      unit: convolution, normalization and activation, with the network's options bound.
    """

    features: int
    stride: int = 1
    dilation: int = 1
    variant: str = "torchvision"
    unit: Callable[..., nn.Module] = ConvNorm

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map x [n, h, w, c] to [n, ceil(h / stride), ceil(w / stride), features]."""
        channels_in, half, megvii = x.shape[-1], self.features // 2, self.variant == "megvii"
        unit = partial(self.unit, stride=self.stride, dilation=self.dilation)
        depthwise = partial(depthwise_unit, unit)
        if self.stride == 1 and channels_in == self.features:
            if megvii:
                x = keep_steps(channel_shuffle(x, half), x)  # even channels first
            shortcut, half_of_x = jnp.split(x, 2, axis=-1)  # two of [n, h, w, c / 2]
            x = keep_steps(half_of_x, x)
        else:
            shortcut = depthwise(x, train, name="shortcut_depthwise")
            channels = channels_in if megvii else half
            pointwise = self.unit(
                channels, activation=relu, rounds=False, name="shortcut_pointwise"
            )
            shortcut = pointwise(shortcut, train)
        x = self.unit(half, activation=relu, name="pointwise1")(x, train)
        x = depthwise(x, train, name="depthwise")
        channels = self.features - shortcut.shape[-1]
        x = self.unit(channels, activation=relu, rounds=False, name="pointwise2")(x, train)
        x = quantize(jnp.concatenate([shortcut, x], axis=-1))
        return x if megvii else keep_steps(channel_shuffle(x, 2), x)


class ShuffleNetV2(ScaledNetwork):
    """Table 5 of the paper.

    Attributes:
      alpha: width: 0.5, 1.0, 1.5 or 2.0.
      variant: "torchvision" or "megvii".
      The others: see `Network`.
    """

    variant: str = "torchvision"
    dropout_rate: float = 0.0

    units: ClassVar[tuple[int, int, int]] = UNITS
    quantizes = True

    def check_options(self) -> None:
        """Raise InputError for an option that the network does not offer."""
        super().check_options()
        check_value("alpha", self.alpha, self.alpha in WIDTHS, ", ".join(map(str, WIDTHS)))
        check_choice("variant", self.variant, VARIANTS)

    def blocks(self) -> list[Block]:
        """List the stem, the pooling after it and the units, in order."""
        widths = WIDTHS[self.alpha].stages
        stages = [Stage(*stage) for stage in zip(widths, self.units, strict=True)]
        stem = unit_block("stem", STEM_CHANNELS, 3, stride=2)
        pool = Block("pool", Max(3, 2, self.window_padding), stride=2)
        return [stem, pool, *stage_blocks(stages, first=2)]

    def shared_ranges(self) -> list[list[str]]:
        """List the units of each stage: a channel that passes is moved, not computed."""
        stages: dict[str, list[str]] = {}
        for block in self.blocks()[2:]:
            stages.setdefault(block.name.partition("_")[0], []).append(block.name)
        return list(stages.values())

    def build(self, place: Place, unit: MakeUnit) -> Layer:
        """Make the layer of a block."""
        stride, dilation, *_ = place.geometry
        channels = place.row.channels
        return ShuffleUnit(channels, stride, dilation, self.variant, unit, name=place.name)

    def finish(self, maps: Maps, train: bool) -> Array:
        """Widen the last map [n, h/32, w/32, c] to 1024 or 2048 channels and classify it."""
        last = self.unit()(WIDTHS[self.alpha].head, activation=relu, name="head")
        x = self.pool(self.run(last, maps.last, train))
        return self.logits(x, train, use_bias=self.variant == "torchvision")
