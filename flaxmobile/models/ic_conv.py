"""Inception convolution (IC-Conv): every channel has its own dilation along each axis.

Paper: Liu et al., "Inception Convolution with Efficient Dilation Search", CVPR 2021
(arXiv:2012.13587). The layer is its section 3.1; the networks are those it puts the layer into:
every 3×3 convolution of ResNet-50 or ResNet-101 (but not the 7×7 stem) or of MobileNet V2
(depthwise) takes the dilations of a pattern, which `flaxmobile.search_dilations` finds (section
3.2). `flaxmobile.load_dilations` reads those that the authors publish.

Where the paper leaves a choice:

- The ResNets are torchvision's: a block strides in its 3×3 convolution (He et al. 2016 stride in
  the 1×1 before it), so that IC-Conv also sees the strided layers. Its shortcut is a strided 1×1.
- The paper rearranges channels so that equal dilations lie together. Here channels stay in the
  network's order and the kernel is one array, so weights without a pattern load into a network
  with one and back; only the arithmetic groups them.
- Dilations are 1 to 6: the paper's d_max is 4 (a supernet of 9×9 kernels), that of the authors'
  patterns for poses 6.
- The width multiplier rounds every width to a multiple of 8, as in MobileNet V2.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.core import FrozenDict
from jax import Array

from flaxmobile.dilations import MAX_DILATION, Dilations, check_dilations, from_counts
from flaxmobile.errors import InputError, check_choice, check_value
from flaxmobile.layers import (
    Activation,
    Block,
    Conv,
    ConvNorm,
    Layer,
    MakeUnit,
    Maps,
    Max,
    Place,
    ScaledNetwork,
    relu,
    relu6,
    round_channels,
    stage_blocks,
    unit_block,
)
from flaxmobile.models import mobilenet_v2
from flaxmobile.ops import dense_conv, depthwise_conv
from flaxmobile.trees import as_tuples


class Stage(NamedTuple):
    """A stage of a ResNet (He et al. 2016, table 1): width of its 3×3 convolutions."""

    channels: int
    blocks: int
    stride: int


STAGES: Mapping[str, tuple[Any, ...]] = {
    "resnet50": (Stage(64, 3, 1), Stage(128, 4, 2), Stage(256, 6, 2), Stage(512, 3, 2)),
    "resnet101": (Stage(64, 3, 1), Stage(128, 4, 2), Stage(256, 23, 2), Stage(512, 3, 2)),
    "mobilenet_v2": mobilenet_v2.STAGES,
}
"""Network that takes the layers -> its table."""
RESNET_STEM_CHANNELS = 64
RESNET_EXPANSION = 4


class ICConv(Conv):
    """Inception convolution (section 3.1, figure 1): a dilation per output channel and axis.

    Its parameters are those of `Conv`, in the network's order of channels.

    Attributes:
      dilations: (vertical, horizontal) of each output channel, on top of `dilation`.
      groups: 1, or the number of input channels (depthwise).
      The others: see `Conv`.
    """

    dilations: Dilations = ()

    def convolve(self, x: Array, kernel: Array) -> Array:
        """Run one convolution per distinct dilation, then put the channels back in their order."""
        if self.groups not in (1, x.shape[-1]):
            raise InputError(f"groups is {self.groups}; accepted: 1 or {x.shape[-1]} (depthwise)")
        check_dilations("this layer", self.dilations, self.features)
        parts, order = [], np.asarray([], int)
        for dilation in sorted(set(self.dilations)):
            channels = np.asarray([i for i, d in enumerate(self.dilations) if d == dilation])
            order = np.concatenate([order, channels])
            options: dict[str, Any] = {
                "strides": self.stride,
                "padding": self.padding,
                "dilation": tuple(self.dilation * d for d in dilation),
            }
            if self.groups == 1:
                parts.append(dense_conv(x, kernel[..., channels], **options))
            else:
                seen = channels * self.groups // self.features  # the input of each output channel
                parts.append(depthwise_conv(x[..., seen], kernel[..., channels], **options))
        y = jnp.concatenate(parts, -1)
        return y if (np.diff(order) == 1).all() else y[..., np.argsort(order)]


class Bottleneck(nn.Module):
    """ResNet's bottleneck: reduce (1×1), filter (3×3), expand (1×1), add (He et al., figure 5).

    Attributes:
      features: channels of the 3×3 convolution; the output has four times as many.
      stride: of the 3×3 convolution and the shortcut.
      dilation: of the 3×3 convolution.
      activation: of all layers.
      unit: convolution, normalization and activation, with the network's options bound.
    """

    features: int
    stride: int = 1
    dilation: int = 1
    activation: Activation = relu
    unit: Callable[..., nn.Module] = ConvNorm

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map x [n, h, w, c] to [n, ceil(h / stride), ceil(w / stride), 4 * features]."""
        shortcut, out_channels = x, self.features * RESNET_EXPANSION
        if self.stride != 1 or x.shape[-1] != out_channels:
            shortcut = self.unit(out_channels, stride=self.stride, name="shortcut")(x, train)
        x = self.unit(self.features, activation=self.activation, name="reduce")(x, train)
        x = self.unit(
            self.features,
            3,
            stride=self.stride,
            dilation=self.dilation,
            activation=self.activation,
            name="filter",
        )(x, train)  # [n, h / stride, w / stride, features]
        return self.activation(self.unit(out_channels, name="expand")(x, train) + shortcut)


class Row(NamedTuple):
    """A block of either network, at a width.

    Attributes:
      layer: path of its IC-Conv layer.
      channels: output channels of that layer.
      build: makes the block from stride, dilation, unit and name.
    """

    layer: str
    channels: int
    build: Callable[..., nn.Module]


def layer_names(base: str, stages: Sequence[Any]) -> list[str]:
    """List the paths of the layers that a pattern dilates, in order."""
    layer = "depthwise" if base == "mobilenet_v2" else "filter"
    return [f"{block.name}/{layer}" for block in stage_blocks(stages)]


class ICConvNet(ScaledNetwork):
    """A ResNet or MobileNet V2 with a dilation for each channel of its 3×3 convolutions.

    Without a pattern every dilation is 1, which is the plain network.

    Attributes:
      base: "resnet50", "resnet101" or "mobilenet_v2".
      pattern: {path of a layer: [[vertical, horizontal] of each output channel]}, see `layers`;
        layers left out are not dilated. What `flaxmobile.load_dilations` returns is accepted.
      supernet: 1 to 6 gives the layers kernels of (2 * supernet + 1)², to be trained and then given
        to `flaxmobile.search_dilations`; 0 is the network itself.
      The others: see `ScaledNetwork`.
    """

    base: str = "resnet50"
    pattern: Mapping[str, Any] | tuple[Mapping[str, int], ...] | None = None
    supernet: int = 0
    dropout_rate: float = 0.0

    stages: ClassVar[Mapping[str, tuple[Any, ...]]] = STAGES

    def __post_init__(self) -> None:
        """Make the pattern hashable, as every field of a module must be, by paths of layers."""
        if isinstance(self.pattern, tuple) and self.base in self.stages:
            names = {base: layer_names(base, stages) for base, stages in self.stages.items()}
            fitting = [base for base in names if len(names[base]) == len(self.pattern)]
            hint = f"; accepted: base={' or '.join(fitting)}" * bool(fitting)
            self.pattern = from_counts(self.pattern, names[self.base], hint)
        if isinstance(self.pattern, Mapping):
            self.pattern = FrozenDict(
                {key: as_tuples(value) for key, value in self.pattern.items()}
            )
        super().__post_init__()

    def check_options(self) -> None:
        """Raise InputError for an option that the network does not offer."""
        super().check_options()
        check_choice("base", self.base, self.stages)
        in_range = self.supernet in range(MAX_DILATION + 1)
        check_value("supernet", self.supernet, in_range, f"0 to {MAX_DILATION}")
        if self.supernet and self.pattern is not None:
            raise InputError("supernet and pattern are given; accepted: one of them")
        layers = self.layers()
        for layer, dilations in self.dilations.items():
            check_choice("layer of the dilation pattern", layer, layers)
            check_dilations(layer, dilations, layers[layer])

    @property
    def dilations(self) -> Mapping[str, Dilations]:
        """The pattern by path of a layer, which `__post_init__` made."""
        return self.pattern if isinstance(self.pattern, Mapping) else {}

    def layers(self) -> dict[str, int]:
        """Path of every layer that a pattern may dilate, and its number of output channels."""
        rows = [block.row for block in self.blocks()]
        return {row.layer: row.channels for row in rows if isinstance(row, Row)}

    def blocks(self) -> list[Block]:
        """List the blocks in order, the stem first."""
        if self.base != "mobilenet_v2":
            stem = unit_block("stem", self.width(RESNET_STEM_CHANNELS), 7, stride=2)
            pool = Block("pool", Max(3, 2, self.window_padding), stride=2)
            return [stem, pool, *self._resnet_blocks()]
        channels = self.width(mobilenet_v2.STEM_CHANNELS)
        stem = unit_block("stem", channels, 3, stride=2, activation=relu6)
        return [stem, *self._mobilenet_blocks()]

    def _resnet_blocks(self) -> Iterator[Block]:
        for block in stage_blocks(self.stages[self.base]):
            width = self.width(block.row.channels)
            row = Row(f"{block.name}/filter", width, partial(Bottleneck, width))
            yield block._replace(row=row)

    def _mobilenet_blocks(self) -> Iterator[Block]:
        channels_in = self.width(mobilenet_v2.STEM_CHANNELS)
        for block in stage_blocks(self.stages[self.base]):
            width, expansion = self.width(block.row.channels), block.row.expansion
            build = partial(
                mobilenet_v2.InvertedResidual,
                width,
                expansion,
                shortcut="bottleneck" if block.stride == 1 else "none",
            )
            row = Row(f"{block.name}/depthwise", channels_in * expansion, build)
            yield block._replace(row=row)
            channels_in = width

    def build(self, place: Place, unit: MakeUnit) -> Layer:
        """Make the layer of a block."""
        dilations = self.dilations.get(place.row.layer)
        size = 2 * self.supernet + 1 if self.supernet else 3
        block: Layer = place.row.build(
            stride=place.geometry.stride,
            dilation=place.geometry.dilation,
            unit=partial(_make_unit, unit, size, dilations),
            name=place.name,
        )
        return block

    def finish(self, maps: Maps, train: bool) -> Array:
        """Classify the last map; MobileNet V2 widens it to 1280 channels first."""
        if self.base != "mobilenet_v2":
            return super().finish(maps, train)
        channels = round_channels(mobilenet_v2.HEAD_CHANNELS * max(1.0, self.alpha))
        x = self.run(self.unit()(channels, activation=relu6, name="head"), maps.last, train)
        return self.classify(x, train)


def _make_unit(
    unit: MakeUnit,
    size: int,
    dilations: Dilations | None,
    features: int,
    kernel_size: int = 1,
    **options: Any,
) -> Layer:
    """Make a unit of a block: IC-Conv where the block filters, a plain one where it mixes."""
    if kernel_size == 1:
        return unit(features, **options)
    if dilations is None:
        return unit(features, size, **options)
    return unit(features, 3, convolution=partial(ICConv, dilations=dilations), **options)
