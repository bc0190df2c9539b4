"""MobileNet V1: depthwise separable convolutions.

Paper: Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision
Applications", 2017 (arXiv:1704.04861). The network is its table 1, the block its figure 3.

Where the paper and the implementations do not all agree:

- Table 1 gives the last depthwise convolution stride 2 and a 7×7 output; its input is 7×7 too, so
  its stride is 1, as everywhere else.
- The paper writes ReLU; TF-slim, Keras and timm have ReLU6, as here.
- The paper scales widths and gives no rounding. Widths are rounded to multiples of 8 (timm, and
  TF-slim's networks since MobileNet V2), or with `whole_widths` cut to whole numbers (Keras). The
  four widths of the paper, and 1.25, are the same in both.
- Padding, normalization and dropout are those of TF-slim and Keras, whose weights are the paper's;
  timm's are `padding="symmetric", norm_epsilon=1e-5, norm_momentum=0.9`.
- Keras pads a strided depthwise convolution by one pixel at the bottom and right at every size, so
  that odd sizes shrink to floor(size / 2); "same" does so at even sizes alone. `odd_sizes="floor"`
  is Keras's.
- `head_convolution` is timm's (`mobilenetv1_100h`): a last 1×1 convolution, as V2 has.
- `depth_multiplier` is Keras's: outputs of a depthwise convolution per input channel.
"""

from collections.abc import Callable
from typing import ClassVar, NamedTuple

from flax import linen as nn
from jax import Array

from flaxmobile.errors import check_choice, check_value
from flaxmobile.layers import (
    Block,
    ConvNorm,
    Layer,
    MakeUnit,
    Maps,
    Place,
    ScaledNetwork,
    relu6,
    round_channels,
    stage_blocks,
    unit_block,
)


class Stage(NamedTuple):
    """Rows of table 1 of equal width: the first has the stride."""

    channels: int
    blocks: int
    stride: int


STAGES = (
    Stage(channels=64, blocks=1, stride=1),
    Stage(channels=128, blocks=2, stride=2),
    Stage(channels=256, blocks=2, stride=2),
    Stage(channels=512, blocks=6, stride=2),
    Stage(channels=1024, blocks=2, stride=2),
)
STEM_CHANNELS = 32
HEAD_CHANNELS = 1024


def scale(channels: float, alpha: float, whole: bool) -> int:
    """Scale a width of the table to a multiple of 8, or as in Keras down to a whole number."""
    return max(1, int(channels * alpha)) if whole else round_channels(channels * alpha)


_BOTTOM_RIGHT = ((0, 1), (0, 1))


class DepthwiseSeparable(nn.Module):
    """Filter each channel (3×3), then mix them (1×1): figure 3, right, of the V1 paper.

    Attributes:
      features: output channels.
      stride, dilation: of the depthwise convolution.
      depth_multiplier: its outputs per input channel.
      floor: halve an odd size downwards, see `MobileNetV1`.
      unit: convolution, normalization and activation, with the network's options bound.
    """

    features: int
    stride: int = 1
    dilation: int = 1
    depth_multiplier: int = 1
    floor: bool = False
    unit: Callable[..., nn.Module] = ConvNorm

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map x [n, h, w, c] to [n, ceil(h / stride), ceil(w / stride), features]."""
        channels = x.shape[-1]
        padding = {"padding": _BOTTOM_RIGHT} if self.floor and self.stride == 2 else {}
        x = self.unit(
            channels * self.depth_multiplier,
            3,
            stride=self.stride,
            dilation=self.dilation,
            groups=channels,
            activation=relu6,
            name="depthwise",
            **padding,
        )(x, train)  # [n, h / stride, w / stride, depth_multiplier * c]
        return self.unit(self.features, activation=relu6, name="pointwise")(x, train)


class MobileNetV1(ScaledNetwork):
    """Table 1 of the paper, at any width and resolution.

    Attributes:
      depth_multiplier: outputs of the depthwise convolutions per input channel, 1 or more.
      odd_sizes: "ceil", or "floor" for maps of floor(size / 2) as in Keras.
      whole_widths: cut widths to whole numbers instead of rounding them to multiples of 8.
      head_convolution: has a last 1×1 convolution, which does not shrink below 1024 channels.
      The others: see `ScaledNetwork`.
    """

    depth_multiplier: int = 1
    odd_sizes: str = "ceil"
    whole_widths: bool = False
    head_convolution: bool = False
    dropout_rate: float = 1e-3
    padding: str = "same"
    norm_momentum: float = 0.99
    norm_epsilon: float = 1e-3

    quantizes = True
    stages: ClassVar[tuple[Stage, ...]] = STAGES

    def check_options(self) -> None:
        """Raise InputError for an option that the network does not offer."""
        super().check_options()
        multiplier = self.depth_multiplier
        check_value("depth_multiplier", multiplier, multiplier >= 1, "1 or more")
        check_choice("odd_sizes", self.odd_sizes, ("ceil", "floor"))

    def width(self, channels: float) -> int:
        """Scale a width of the table, see `scale`."""
        return scale(channels, self.alpha, self.whole_widths)

    def blocks(self) -> list[Block]:
        """List the blocks in order, the stem first."""
        stem = unit_block("stem", self.width(STEM_CHANNELS), 3, stride=2, activation=relu6)
        return [stem, *stage_blocks(self.stages)]

    def build(self, place: Place, unit: MakeUnit) -> Layer:
        """Make the layer of a block."""
        return DepthwiseSeparable(
            self.width(place.row.channels),
            stride=place.geometry.stride,
            dilation=place.geometry.dilation,
            depth_multiplier=self.depth_multiplier,
            floor=self.odd_sizes == "floor",
            unit=unit,
            name=place.name,
        )

    def finish(self, maps: Maps, train: bool) -> Array:
        """Widen the last map [n, h/32, w/32, c] if there is a layer for it, and classify it."""
        x = maps.last
        if self.head_convolution:
            channels = max(HEAD_CHANNELS, self.width(HEAD_CHANNELS))
            x = self.run(self.unit()(channels, activation=relu6, name="head"), x, train)
        return self.classify(x, train)
