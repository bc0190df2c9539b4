"""ShuffleNet V2: units designed after memory traffic instead of multiply-adds.

Paper: Ma et al., "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design", ECCV
2018 (arXiv:1807.11164). The network is its table 5, the units are its figures 3c and 3d.

Where the paper and torchvision differ, we follow torchvision:

- Table 5's "Conv5", the 1×1 convolution after the last stage, is `head`; no dropout follows.
- `variant="megvii"` is the authors' public PyTorch network (`ShuffleNetV2` of
  megvii-model/ShuffleNet-Series). Its units do not shuffle their output; those of stride 1 pass the
  even channels and transform the odd ones. Where the size changes, the shortcut keeps its number of
  channels, which is not half of stage 2's. The classifier has no bias; at 2.0, dropout 0.2 stood
  before it in training.
- The deeper variant with squeeze-excite and residuals (table 8) is not offered.
"""

from collections.abc import Callable
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from flaxmobile.errors import InputError, unknown
from flaxmobile.layers import ConvNorm, Network, channel_shuffle, max_pool, plan_strides, relu


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
STEM_CHANNELS = 24
BLOCKS = (4, 8, 4)
"""Units of stages 2, 3 and 4; the first of each has stride 2."""


class ShuffleUnit(nn.Module):
    """Half of the channels pass, half are transformed, then all are shuffled: figure 3c.

    Where the number of channels or the size changes, both branches transform the whole input:
    figure 3d.

    Attributes:
      features: output channels, even.
      stride: 1 or 2.
      dilation: of the depthwise convolutions.
      variant: "torchvision" or "megvii", which say how channels are shared out.
      conv: the convolution unit, with the network's options bound.
    """

    features: int
    stride: int = 1
    dilation: int = 1
    variant: str = "torchvision"
    conv: Callable[..., nn.Module] = ConvNorm

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map x [n, h, w, c] to [n, ceil(h / stride), ceil(w / stride), features]."""
        given, half, megvii = x.shape[-1], self.features // 2, self.variant == "megvii"
        if self.stride == 1 and given == self.features:
            dealt = channel_shuffle(x, half) if megvii else x  # even channels first
            passed, x = jnp.split(dealt, 2, axis=-1)  # two of [n, h, w, c / 2]
        else:
            kept = given if megvii else half
            passed = self._depthwise(x, "shortcut_depthwise", train)
            passed = self.conv(kept, activation=relu, name="shortcut_pointwise")(passed, train)
        x = self.conv(half, activation=relu, name="pointwise1")(x, train)
        x = self._depthwise(x, "depthwise", train)
        made = self.features - passed.shape[-1]
        x = self.conv(made, activation=relu, name="pointwise2")(x, train)
        x = jnp.concatenate([passed, x], axis=-1)
        return x if megvii else channel_shuffle(x, 2)

    def _depthwise(self, x: Array, name: str, train: bool) -> Array:
        channels = x.shape[-1]
        y: Array = self.conv(
            channels,
            3,
            stride=self.stride,
            dilation=self.dilation,
            groups=channels,
            name=name,
        )(x, train)
        return y


class ShuffleNetV2(Network):
    """Table 5 of the paper.

    Attributes:
      alpha: width: 0.5, 1.0, 1.5 or 2.0.
      variant: "torchvision" or "megvii".
      The others: see `Network`.
    """

    alpha: float = 1.0
    variant: str = "torchvision"
    dropout_rate: float = 0.0

    blocks: ClassVar[tuple[int, int, int]] = BLOCKS

    def check(self) -> None:
        """Raise InputError for an option that the network does not offer."""
        super().check()
        if self.alpha not in WIDTHS:
            offered = ", ".join(map(str, WIDTHS))
            raise InputError(f"alpha is {self.alpha}; accepted: {offered}")
        if self.variant not in VARIANTS:
            raise unknown("variant", self.variant, VARIANTS)

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Array | dict[int, Array]:
        """Map images [n, h, w, 3] to logits [n, num_classes], or to {stride: features}."""
        self.check()
        conv, widths = self.conv_norm(), WIDTHS[self.alpha]
        x = self.check_images(images)
        x = conv(STEM_CHANNELS, 3, stride=2, activation=relu, name="stem")(x, train)
        endpoints = {2: x}  # [n, h/2, w/2, 24]
        if self.deepest_stride > 2:
            x = endpoints[4] = max_pool(x, 3, 2, conv.keywords["padding"])  # [n, h/4, w/4, 24]
        units = [
            (f"stage{number}_block{block}", features, 2 if block == 1 else 1)
            for number, (features, blocks) in enumerate(
                zip(widths.stages, self.blocks, strict=True), start=2
            )
            for block in range(1, blocks + 1)
        ]
        steps = plan_strides((stride for *_, stride in units), self.output_stride, before=4)
        for (name, features, _), step in zip(units, steps, strict=True):
            if step.total > self.deepest_stride:
                break
            x = endpoints[step.total] = ShuffleUnit(
                features, step.stride, step.dilation, self.variant, conv, name=name
            )(x, train)
        if self.out_strides is not None:
            return {stride: endpoints[stride] for stride in self.out_strides}
        x = conv(widths.head, activation=relu, name="head")(x, train)  # [n, h/32, w/32, 1024]
        x = self.pool(x)
        use_bias = self.variant == "torchvision"
        return x if self.num_classes == 0 else self.logits(x, train, use_bias)
