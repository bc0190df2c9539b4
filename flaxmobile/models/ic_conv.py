"""Inception convolution (IC-Conv): every channel has its own dilation along each axis.

Paper: Liu et al., "Inception Convolution with Efficient Dilation Search", CVPR 2021
(arXiv:2012.13587). The layer is its section 3.1; the networks are those it puts the layer into:
every 3×3 convolution of ResNet-50 (but not the 7×7 stem) or of MobileNet V2 (depthwise) takes the
dilations of a pattern, which `flaxmobile.search_dilations` finds (section 3.2).

Where we decide:

- ResNet-50 is torchvision's: a block strides in its 3×3 convolution (He et al. 2016 stride in the
  1×1 before it), so that IC-Conv also sees the strided layers, and its shortcut is a strided 1×1.
- The paper rearranges channels so that equal dilations lie together. Here channels stay in the
  network's order and the kernel is one array, so weights without a pattern load into a network
  with one and back; only the arithmetic groups them.
- Dilations are 1 to 4 (the paper's d_max, a supernet of 9×9 kernels).
- The width multiplier rounds every width to a multiple of 8, as in MobileNet V2.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple

from flax import linen as nn
from flax.core import FrozenDict
from jax import Array

from flaxmobile.errors import InputError, unknown
from flaxmobile.layers import (
    Activation,
    ConvNorm,
    Network,
    max_pool,
    plan_strides,
    relu,
    relu6,
    round_channels,
)
from flaxmobile.layers.ic_conv import MAX_DILATION, Dilations, ICConvNorm, check_dilations
from flaxmobile.models import mobilenet_v2
from flaxmobile.trees import as_tuples

BASES = ("resnet50", "mobilenet_v2")


class Stage(NamedTuple):
    """A stage of ResNet-50 (He et al. 2016, table 1): width of its 3×3 convolutions."""

    channels: int
    blocks: int
    stride: int


RESNET_STAGES = (
    Stage(channels=64, blocks=3, stride=1),
    Stage(channels=128, blocks=4, stride=2),
    Stage(channels=256, blocks=6, stride=2),
    Stage(channels=512, blocks=3, stride=2),
)
RESNET_STEM_CHANNELS = 64
RESNET_EXPANSION = 4


class Bottleneck(nn.Module):
    """ResNet's bottleneck: reduce (1×1), filter (3×3), expand (1×1), add (He et al., figure 5).

    Attributes:
      features: channels of the 3×3 convolution; the output has four times as many.
      stride: of the 3×3 convolution and the shortcut.
      dilation: of the 3×3 convolution.
      activation: of all layers.
      conv: the convolution unit, with the network's options bound.
    """

    features: int
    stride: int = 1
    dilation: int = 1
    activation: Activation = relu
    conv: Callable[..., nn.Module] = ConvNorm

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map x [n, h, w, c] to [n, ceil(h / stride), ceil(w / stride), 4 * features]."""
        shortcut, wide = x, self.features * RESNET_EXPANSION
        if self.stride != 1 or x.shape[-1] != wide:
            shortcut = self.conv(wide, stride=self.stride, name="shortcut")(x, train)
        x = self.conv(self.features, activation=self.activation, name="reduce")(x, train)
        x = self.conv(
            self.features,
            3,
            stride=self.stride,
            dilation=self.dilation,
            activation=self.activation,
            name="filter",
        )(x, train)  # [n, h / stride, w / stride, features]
        return self.activation(self.conv(wide, name="expand")(x, train) + shortcut)


class _Block(NamedTuple):
    """A block of either network.

    Attributes:
      name: of the block.
      layer: path of its IC-Conv layer.
      channels: output channels of that layer.
      stride: of that layer.
      build: the block's module, but for stride, dilation, conv and name.
    """

    name: str
    layer: str
    channels: int
    stride: int
    build: Callable[..., nn.Module]


class ICConvNet(Network):
    """ResNet-50 or MobileNet V2 with a dilation for each channel of its 3×3 convolutions.

    Without a pattern every dilation is 1, which is the plain network.

    Attributes:
      base: "resnet50" or "mobilenet_v2".
      alpha: width multiplier, above 0.
      pattern: {path of a layer: [[vertical, horizontal] of each output channel]}, see `layers`;
        layers left out are not dilated. Lists as JSON has them are accepted.
      supernet: 1 to 4 gives the layers kernels of (2 * supernet + 1)², to be trained and then given
        to `flaxmobile.search_dilations`; 0 is the network itself.
      The others: see `Network`.
    """

    base: str = "resnet50"
    alpha: float = 1.0
    pattern: Mapping[str, Any] | None = None
    supernet: int = 0
    dropout_rate: float = 0.0

    resnet_stages: ClassVar[tuple[Stage, ...]] = RESNET_STAGES
    mobilenet_stages: ClassVar[tuple[mobilenet_v2.Stage, ...]] = mobilenet_v2.STAGES

    def __post_init__(self) -> None:
        """Make the pattern hashable, as every field of a module must be."""
        if isinstance(self.pattern, Mapping):
            self.pattern = FrozenDict(
                {key: as_tuples(value) for key, value in self.pattern.items()}
            )
        super().__post_init__()

    def check(self) -> None:
        """Raise InputError for an option that the network does not offer."""
        super().check()
        if self.base not in BASES:
            raise unknown("base", self.base, BASES)
        if not 0 < self.alpha < math.inf:
            raise InputError(f"alpha is {self.alpha}; accepted: any number above 0")
        if self.supernet not in range(MAX_DILATION + 1):
            raise InputError(f"supernet is {self.supernet}; accepted: 0 to {MAX_DILATION}")
        if self.supernet and self.pattern is not None:
            raise InputError("supernet and pattern are given; accepted: one of them")
        layers = self.layers()
        for layer, dilations in (self.pattern or {}).items():
            if layer not in layers:
                raise unknown("layer of the dilation pattern", layer, layers)
            check_dilations(layer, dilations, layers[layer])

    def layers(self) -> dict[str, int]:
        """Path of every layer that a pattern may dilate, and its number of output channels."""
        return {block.layer: block.channels for block in self._blocks()}

    def _blocks(self) -> list[_Block]:
        if self.base == "resnet50":
            return list(_resnet_blocks(self.alpha, self.resnet_stages))
        return list(_mobilenet_blocks(self.alpha, self.mobilenet_stages))

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Array | dict[int, Array]:
        """Map images [n, h, w, 3] to logits [n, num_classes], or to {stride: features}."""
        self.check()
        conv, is_resnet = self.conv_norm(), self.base == "resnet50"
        x = self.check_images(images)
        x = conv(
            round_channels(
                self.alpha * (RESNET_STEM_CHANNELS if is_resnet else mobilenet_v2.STEM_CHANNELS)
            ),
            7 if is_resnet else 3,
            stride=2,
            activation=relu if is_resnet else relu6,
            name="stem",
        )(x, train)  # [n, h/2, w/2, c]
        endpoints = {2: x}
        blocks = self._blocks()
        before = 4 if is_resnet else 2
        steps = plan_strides((block.stride for block in blocks), self.output_stride, before)
        if is_resnet and self.deepest_stride > 2:
            x = max_pool(x, 3, 2, conv.keywords["padding"])  # [n, h/4, w/4, c]
        for block, step in zip(blocks, steps, strict=True):
            if step.total > self.deepest_stride:
                break
            x = endpoints[step.total] = block.build(
                stride=step.stride,
                dilation=step.dilation,
                conv=_unit(conv, self.supernet, (self.pattern or {}).get(block.layer)),
                name=block.name,
            )(x, train)
        if self.out_strides is not None:
            return {stride: endpoints[stride] for stride in self.out_strides}
        if not is_resnet:
            head = round_channels(mobilenet_v2.HEAD_CHANNELS * max(1.0, self.alpha))
            x = conv(head, activation=relu6, name="head")(x, train)
        return self.classify(x, train)


def _resnet_blocks(alpha: float, stages: Sequence[Stage]) -> Iterator[_Block]:
    for number, stage in enumerate(stages, start=1):
        width = round_channels(stage.channels * alpha)
        for block in range(1, stage.blocks + 1):
            name, stride = f"stage{number}_block{block}", stage.stride if block == 1 else 1
            yield _Block(name, f"{name}/filter", width, stride, partial(Bottleneck, width))


def _mobilenet_blocks(alpha: float, stages: Sequence[mobilenet_v2.Stage]) -> Iterator[_Block]:
    given = round_channels(mobilenet_v2.STEM_CHANNELS * alpha)
    for number, stage in enumerate(stages, start=1):
        width = round_channels(stage.channels * alpha)
        for block in range(1, stage.blocks + 1):
            name, stride = f"stage{number}_block{block}", stage.stride if block == 1 else 1
            build = partial(
                mobilenet_v2.InvertedResidual,
                width,
                stage.expansion,
                shortcut="bottleneck" if stride == 1 else "none",
            )
            wide, given = given * stage.expansion, width
            yield _Block(name, f"{name}/depthwise", wide, stride, build)


def _unit(
    conv: partial[ConvNorm], supernet: int, dilations: Dilations | None
) -> Callable[..., nn.Module]:
    """Bind the unit of a block: IC-Conv where the block filters, a plain one where it mixes."""

    def make(features: int, kernel_size: int = 1, **options: Any) -> nn.Module:
        if kernel_size == 1:
            return conv(features, **options)
        if dilations is None:
            return conv(features, 2 * supernet + 1 if supernet else kernel_size, **options)
        return ICConvNorm(
            features, kernel_size, dilations=dilations, **{**conv.keywords, **options}
        )

    return make
