"""MobileNet V3: searched inverted residuals with squeeze-excite and hard-swish.

Paper: Howard et al., "Searching for MobileNetV3", ICCV 2019 (arXiv:1905.02244). The networks are
its tables 1 (large) and 2 (small), the block its figure 4, the last stage its figure 5.

Where the paper and the implementations do not all agree:

- The projection of a block is linear (some copies of torchvision's code activate it).
- Squeeze-excite keeps a quarter of the expanded channels, rounded to a multiple of 8, and follows
  the depthwise convolution's activation, as in torchvision and timm; with `squeeze_first` it stands
  before that activation in blocks that expand, as in d-li14/mobilenetv3.pytorch.
- The small network's last 1×1 convolution has no squeeze-excite, which table 2 gives it.
- Widths below alpha 1, under `last_channel`: "torchvision" scales every number of the tables,
  "paper" is TF-slim's and timm's way: neither stem nor hidden layer shrinks (otherwise large 0.75
  would not have its 4.0 million parameters), and an expanded width is the tables' ratio times the
  scaled input. "keras" is "paper" with a stem that does not grow above alpha 1 either, and a last
  convolution of six times the scaled width before it. At alpha 1 all are the same network.
- `hidden_layer=False` is Keras's network without top, which ends before the hidden layer.
- `reduced_tail` and `dilated` are torchvision's: half of the channels of the last stage, for
  detection; a last stage that dilates, its first block included, for segmentation. Under
  `reduced_expansion` that first block expands to half as well: DeepLab's networks, which are those
  of the paper's table 7.
- Normalization and padding are torchvision's; TF-slim's weights want `padding="same"`.
"""

from collections.abc import Callable
from functools import partial
from typing import ClassVar

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from flaxmobile.errors import InputError, check_choice
from flaxmobile.layers import (
    Activation,
    Block,
    ConvNorm,
    Dense,
    DropPath,
    DropPathNetwork,
    Layer,
    MakeUnit,
    Maps,
    Place,
    SqueezeExcite,
    activate,
    hard_swish,
    quantize,
    relu,
    round_channels,
    unit_block,
)
from flaxmobile.models.mobilenet_v3_tables import LARGE, SMALL, Row, Scaled, Table, scale

LAST_CHANNELS = ("torchvision", "paper", "keras")


class SqueezedInvertedResidual(nn.Module):
    """Expand, filter, squeeze and excite, project: figure 4, a "bneck" of tables 1 and 2.

    Attributes:
      features: output channels.
      expanded: channels of the filtered tensor; the input's leaves the first layer out.
      kernel: side of the depthwise kernel, 3 or 5.
      stride, dilation: of the depthwise convolution.
      squeeze: has squeeze-excite.
      squeeze_first: it stands before the depthwise convolution's activation if the block expands.
      shortcut: add the input, where the channels agree.
      drop_path_rate: fraction of the images that skip the block in training, where it has a
        shortcut.
      axis_name: see `Dropout`.
      activation: after the first two convolutions.
      unit: convolution, normalization and activation, with the network's options bound.
      dtype: type of the arithmetic of squeeze-excite.
    """

    features: int
    expanded: int
    kernel: int = 3
    stride: int = 1
    dilation: int = 1
    squeeze: bool = True
    squeeze_first: bool = False
    shortcut: bool = True
    drop_path_rate: float = 0.0
    axis_name: str | None = None
    activation: Activation = hard_swish
    unit: Callable[..., nn.Module] = ConvNorm
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map x [n, h, w, c] to [n, ceil(h / stride), ceil(w / stride), features]."""
        x_in, hidden_channels = x, self.expanded
        expands = hidden_channels != x.shape[-1]
        squeezes_first = self.squeeze_first and self.squeeze and expands
        conv = partial(self.unit, hidden_channels)
        if expands:
            x = conv(activation=self.activation, name="expand")(x, train)
        depthwise = conv(
            self.kernel,
            self.stride,
            self.dilation,
            groups=hidden_channels,
            activation=None if squeezes_first else self.activation,
            name="depthwise",
        )
        x = depthwise(x, train)  # [n, h / stride, w / stride, expanded]
        if self.squeeze:
            x = SqueezeExcite(
                round_channels(hidden_channels / 4), dtype=self.dtype, name="squeeze"
            )(x)
        if squeezes_first:
            x = quantize(self.activation(x), "activated_range")
        x = self.unit(self.features, name="project")(x, train)
        if self.shortcut and x_in.shape == x.shape:
            drop = DropPath(self.drop_path_rate, self.axis_name, name="drop_path")
            x = drop(x, deterministic=not train)
            return quantize(x + x_in, "sum_range")
        return x


class MobileNetV3(DropPathNetwork):
    """The network of a table, at any width: `MobileNetV3Large` and `MobileNetV3Small`.

    Attributes:
      last_channel: "torchvision", "paper" or "keras": how widths scale, see the file's docstring.
      hidden_layer: has the dense layer before the classifier.
      reduced_tail: half of the channels in the last stage and after it.
      reduced_expansion: and in the expansion of its first block. Needs reduced_tail.
      minimalistic: ReLU and 3×3 kernels everywhere, no squeeze-excite (TF-slim's variant).
      squeeze_first: squeeze-excite stands before the depthwise convolution's activation in blocks
        that expand (d-li14).
      dilated: the whole last stage is dilated (torchvision); by `output_stride` only, the first
        block keeps its dilation. Needs output_stride 16.
      The others: see `DropPathNetwork`.
    """

    last_channel: str = "torchvision"
    hidden_layer: bool = True
    reduced_tail: bool = False
    reduced_expansion: bool = False
    minimalistic: bool = False
    squeeze_first: bool = False
    dilated: bool = False
    norm_momentum: float = 0.99
    norm_epsilon: float = 1e-3

    quantizes = True
    inverted_residuals = True
    table: ClassVar[Table]

    def check_options(self) -> None:
        """Raise InputError for an option that the network does not offer."""
        super().check_options()
        check_choice("last_channel", self.last_channel, LAST_CHANNELS)
        if self.reduced_expansion and not self.reduced_tail:
            raise InputError("reduced_expansion is True; accepted: only where reduced_tail is")
        if self.dilated and self.output_stride != 16:
            raise InputError(
                f"dilated is True and output_stride {self.output_stride}; accepted: a dilated last "
                "stage has output_stride=16"
            )

    @property
    def scaled(self) -> Scaled:
        """The table at the network's width."""
        tail = (self.reduced_tail, self.reduced_expansion)
        return scale(self.table, self.alpha, self.last_channel, *tail)

    @property
    def activation(self) -> Activation:
        """Activation of the stem, of the last stages, and after them."""
        return relu if self.minimalistic else hard_swish

    def squeezes(self, row: Row) -> bool:
        """Whether the block of a row has squeeze-excite."""
        return row.stage.squeeze and not self.minimalistic

    def blocks(self) -> list[Block]:
        """List the blocks in order: the stem, the bottlenecks, the last convolution."""
        scaled, activation = self.scaled, self.activation
        stem = unit_block("stem", scaled.stem, 3, stride=2, activation=activation)
        return [stem, *scaled.blocks, unit_block("last", scaled.last, activation=activation)]

    def build(self, place: Place, unit: MakeUnit) -> Layer:
        """Make the layer of a block."""
        stage, geometry = place.row.stage, place.geometry
        dilates_first_block = self.dilated and stage is self.table.stages[-1]
        return SqueezedInvertedResidual(
            place.row.channels,
            place.row.expanded_channels,
            kernel=3 if self.minimalistic else stage.kernel,
            stride=geometry.stride,
            dilation=geometry.later_dilation if dilates_first_block else geometry.dilation,
            squeeze=self.squeezes(place.row),
            squeeze_first=self.squeeze_first,
            shortcut=place.stride == 1,
            drop_path_rate=self.drop_path_rate_of(place),
            axis_name=self.axis_name,
            activation=self.activation if stage.swish else relu,
            unit=unit,
            dtype=self.dtype,
            name=place.name,
        )

    def finish(self, maps: Maps, train: bool) -> Array:
        """Pool, widen and classify the last map."""
        x = self.pool(maps.last)
        if self.hidden_layer:
            init = nn.initializers.normal(0.01)
            x = Dense(self.scaled.hidden, kernel_init=init, dtype=x.dtype, name="hidden")(x)
            x = activate(self.activation, x, "hidden_range")  # [n, 1280 or 1024]
        return self.logits(x, train)


class MobileNetV3Large(MobileNetV3):
    """Table 1 of the paper; see `MobileNetV3` for the options."""

    table = LARGE


class MobileNetV3Small(MobileNetV3):
    """Table 2 of the paper; see `MobileNetV3` for the options."""

    table = SMALL
