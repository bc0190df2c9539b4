"""MobileNet V4: universal inverted bottlenecks, whose depthwise convolutions are optional.

Paper: Qin et al., "MobileNetV4: Universal Models for the Mobile Ecosystem", ECCV 2024
(arXiv:2404.10518). The networks are the convolutional ones of its appendix (MNv4-Conv-S, -M and
-L), the block its figure 4.

Where the paper and the implementations (timm, TensorFlow Model Garden) differ, we follow timm,
whose weights are published:

- The first stages of the small network are plain convolutions, all with an activation; the paper
  writes each pair as a fused inverted bottleneck, whose projection is linear.
- The last convolution, behind pooling, has 1280 channels at every alpha; the stem does not shrink
  below alpha 1. The paper has no widths.
- Normalization has PyTorch's epsilon and momentum.
- Dropout 0.2 before the classifier.
"""

from collections.abc import Callable, Mapping
from typing import ClassVar

from flax import linen as nn
from jax import Array

from flaxmobile.errors import check_choice
from flaxmobile.layers import (
    Activation,
    Block,
    ConvNorm,
    DropPath,
    DropPathNetwork,
    Layer,
    MakeUnit,
    Maps,
    Place,
    keep_steps,
    quantize,
    relu,
    round_channels,
    unit_block,
)
from flaxmobile.models.mobilenet_v4_tables import HEAD_CHANNELS, TABLES, Conv, Fused, Table


class FusedInvertedResidual(nn.Module):
    """Expand by a strided 3×3 convolution, project (1×1, linear), without a shortcut.

    It is the Fused-MBConv of EfficientNetV2 (arXiv:2104.00298), figure 2; the paper's "FusedIB".

    Attributes:
      features: output channels.
      expansion: hidden channels over input channels.
      stride, dilation: of the 3×3 convolution.
      activation: after it.
      unit: convolution, normalization and activation, with the network's options bound.
    """

    features: int
    expansion: int = 4
    stride: int = 2
    dilation: int = 1
    activation: Activation = relu
    unit: Callable[..., nn.Module] = ConvNorm

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map x [n, h, w, c] to [n, ceil(h / stride), ceil(w / stride), features]."""
        hidden_channels = round_channels(x.shape[-1] * self.expansion)
        expand = self.unit(
            hidden_channels,
            3,
            stride=self.stride,
            dilation=self.dilation,
            activation=self.activation,
            name="expand",
        )
        x = expand(x, train)  # [n, h / stride, w / stride, expansion * c]
        return self.unit(self.features, name="project")(x, train)


class UniversalInvertedBottleneck(nn.Module):
    """Filter, expand (1×1), filter, project (1×1): figure 4; either filter may be left out.

    Attributes:
      features: output channels.
      expansion: hidden channels over input channels.
      start: side of the depthwise kernel before the expansion, which is linear; 0 has none.
      middle: side of the depthwise kernel after the expansion; 0 has none.
      stride: of the last depthwise convolution.
      dilation: of both.
      shortcut: add the input to the output where their shapes agree.
      drop_path_rate: fraction of the images that skip the block in training, where it has a
        shortcut.
      axis_name: see `Dropout`.
      activation: after the expansion and the depthwise convolution behind it.
      unit: convolution, normalization and activation, with the network's options bound.
    """

    features: int
    expansion: int = 4
    start: int = 3
    middle: int = 3
    stride: int = 1
    dilation: int = 1
    shortcut: bool = True
    drop_path_rate: float = 0.0
    axis_name: str | None = None
    activation: Activation = relu
    unit: Callable[..., nn.Module] = ConvNorm

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map x [n, h, w, c] to [n, ceil(h / stride), ceil(w / stride), features]."""
        x_in, c = x, x.shape[-1]
        hidden_channels = round_channels(c * self.expansion)
        if self.start:
            stride = 1 if self.middle else self.stride
            start = self.unit(c, self.start, stride, self.dilation, groups=c, name="start")
            x = start(x, train)
        x = self.unit(hidden_channels, activation=self.activation, name="expand")(x, train)
        if self.middle:
            depthwise = self.unit(
                hidden_channels,
                self.middle,
                self.stride,
                self.dilation,
                groups=hidden_channels,
                activation=self.activation,
                name="depthwise",
            )
            x = depthwise(x, train)  # [n, h / stride, w / stride, expansion * c]
        x = self.unit(self.features, name="project")(x, train)
        if not self.shortcut or x.shape != x_in.shape:
            return x
        drop = DropPath(self.drop_path_rate, self.axis_name, name="drop_path")
        return quantize(drop(x, deterministic=not train) + x_in, "sum_range")


class MobileNetV4(DropPathNetwork):
    """A convolutional network of the paper, at any width.

    Attributes:
      variant: "small", "medium" or "large", see `TABLES`.
      alpha: width multiplier, above 0; timm publishes the small network at 0.5 and 1.0.
      The others: see `DropPathNetwork`.
    """

    variant: str = "small"

    quantizes = True
    tables: ClassVar[Mapping[str, Table]] = TABLES

    def check_options(self) -> None:
        """Raise InputError for an option that the network does not offer."""
        super().check_options()
        check_choice("variant", self.variant, tuple(self.tables))

    @property
    def table(self) -> Table:
        """The variant's table."""
        return self.tables[self.variant]

    @property
    def stem_channels(self) -> int:
        """Output channels of the first convolution."""
        return self.table.stem if self.alpha < 1 else self.width(self.table.stem)

    def blocks(self) -> list[Block]:
        """List the blocks in order, the stem first."""
        blocks = [unit_block("stem", self.stem_channels, 3, stride=2)]
        for stage, rows in enumerate(self.table.stages, start=1):
            for number, row in enumerate(rows, start=1):
                name = f"stage{stage}_block{number}"
                match row:
                    case Conv(channels, kernel, stride):
                        blocks.append(unit_block(name, self.width(channels), kernel, stride))
                    case _:
                        blocks.append(Block(name, row, row.stride))
        return blocks

    def build(self, place: Place, unit: MakeUnit) -> Layer:
        """Make the layer of a block."""
        row, (stride, dilation, *_) = place.row, place.geometry
        features = self.width(row.channels)
        if isinstance(row, Fused):
            return FusedInvertedResidual(
                features, row.expansion, stride, dilation, unit=unit, name=place.name
            )
        return UniversalInvertedBottleneck(
            features,
            row.expansion,
            row.start,
            row.middle,
            stride=stride,
            dilation=dilation,
            shortcut=place.stride == 1,
            drop_path_rate=self.drop_path_rate_of(place),
            axis_name=self.axis_name,
            unit=unit,
            name=place.name,
        )

    def finish(self, maps: Maps, train: bool) -> Array:
        """Pool the last map [n, h/32, w/32, 960], widen it to 1280 channels and classify it."""
        pooled = self.pool(maps.last)
        x = keep_steps(pooled[:, None, None, :], pooled)  # [n, 1, 1, 960]
        head = self.unit()(HEAD_CHANNELS, activation=relu, dtype=x.dtype, name="head")
        x = head(x, train)
        return self.logits(keep_steps(x.squeeze((1, 2)), x), train)
