"""MobileNet V2: inverted residuals with linear bottlenecks.

Paper: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018
(arXiv:1801.04381). The network is its table 2, the block its table 1 and figure 4d.

Where the paper and the reference implementations differ, we follow the implementations (TF-slim
and torchvision, which agree):

- Table 2 gives the stage of 64 channels stride 2 and a 28×28 input; its own output sizes need that
  stride at the stage of 64 and stride 1 at the stage of 96, as here.
- The text counts 19 residual bottlenecks, the table has 17: 17.
- The first block has expansion 1 and then no expansion convolution.
- Widths are rounded to multiples of 8; the last 1×1 convolution does not shrink below alpha 1.
- Dropout 0.2 before the classifier, which table 2 writes as a 1×1 convolution.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from flax import linen as nn
from jax import Array

from flaxmobile.errors import InputError, unknown
from flaxmobile.layers import (
    Activation,
    ConvNorm,
    Network,
    plan_strides,
    relu6,
    round_channels,
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
      conv: the convolution unit, with the network's options bound.
    """

    features: int
    expansion: int = 6
    stride: int = 1
    dilation: int = 1
    shortcut: str = "bottleneck"
    linear: bool = True
    activation: Activation = relu6
    conv: Callable[..., nn.Module] = ConvNorm

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map x [n, h, w, c] to [n, ceil(h / stride), ceil(w / stride), features]."""
        if self.shortcut not in SHORTCUTS:
            raise unknown("shortcut", self.shortcut, SHORTCUTS)
        narrow, wide = x, x.shape[-1] * self.expansion
        if self.expansion != 1:
            x = self.conv(wide, activation=self.activation, name="expand")(x, train)
        expanded = x  # [n, h, w, expansion * c]
        x = self.conv(
            wide,
            3,
            stride=self.stride,
            dilation=self.dilation,
            groups=wide,
            activation=self.activation,
            name="depthwise",
        )(x, train)  # [n, h / stride, w / stride, expansion * c]
        if self.shortcut == "expansion" and self.stride == 1:
            x += expanded
        last = None if self.linear else self.activation
        x = self.conv(self.features, activation=last, name="project")(x, train)
        if self.stride != 1:
            return x
        if self.shortcut == "projection":
            return x + self.conv(self.features, name="shortcut")(narrow, train)
        if self.shortcut == "bottleneck" and narrow.shape == x.shape:
            return x + narrow
        return x


class MobileNetV2(Network):
    """Table 2 of the paper, at any width.

    Attributes:
      alpha: width multiplier, above 0.
      shortcut, linear: the paper's ablations, see `InvertedResidual`.
      The others: see `Network`.
    """

    alpha: float = 1.0
    shortcut: str = "bottleneck"
    linear: bool = True

    def check(self) -> None:
        """Raise InputError for an option that the network does not offer."""
        super().check()
        if not 0 < self.alpha < math.inf:
            raise InputError(f"alpha is {self.alpha}; accepted: any number above 0")
        if self.shortcut not in SHORTCUTS:
            raise unknown("shortcut", self.shortcut, SHORTCUTS)

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Array | dict[int, Array]:
        """Map images [n, h, w, 3] to logits [n, num_classes], or to {stride: features}."""
        self.check()
        conv = self.conv_norm()
        x = self.check_images(images)
        x = conv(
            round_channels(STEM_CHANNELS * self.alpha), 3, stride=2, activation=relu6, name="stem"
        )(x, train)  # [n, h/2, w/2, 32]
        endpoints = {2: x}
        blocks = [
            (f"stage{number}_block{block}", stage, stage.stride if block == 1 else 1)
            for number, stage in enumerate(STAGES, start=1)
            for block in range(1, stage.blocks + 1)
        ]
        steps = plan_strides((stride for *_, stride in blocks), self.output_stride, before=2)
        for (name, stage, stride), step in zip(blocks, steps, strict=True):
            if step.total > self.deepest_stride:
                break
            x = endpoints[step.total] = InvertedResidual(
                round_channels(stage.channels * self.alpha),
                stage.expansion,
                stride=step.stride,
                dilation=step.dilation,
                shortcut=self.shortcut if stride == 1 else "none",
                linear=self.linear,
                conv=conv,
                name=name,
            )(x, train)
        if self.out_strides is not None:
            return {stride: endpoints[stride] for stride in self.out_strides}
        x = conv(
            round_channels(HEAD_CHANNELS * max(1.0, self.alpha)), activation=relu6, name="head"
        )(x, train)  # [n, h/32, w/32, 1280]
        return self.classify(x, train)
