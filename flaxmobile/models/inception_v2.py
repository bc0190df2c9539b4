"""Inception V2 (BN-Inception): batch normalization, and 5×5 convolutions as two 3×3.

Paper: Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing
Internal Covariate Shift", ICML 2015 (arXiv:1502.03167). The network is figure 5 of its appendix.

Three flavours:

- "slim" (the default) is TF-slim's `inception_v2`: a separable 7×7 first layer of 8 depthwise
  outputs per image channel, with a bias in the place of normalization.
- "paper" has that layer too (the appendix' last sentence), normalized.
- "caffe" is the BN-Inception whose weights circulate: a dense 7×7 first layer. Its convolutions'
  biases are left out, because normalization cancels them.

In all:

- Figure 5 has 128 channels in the pooling branches of 4c and 4d, and a total of 576 where its
  columns add up to 608: "paper" and "caffe" follow the columns, "slim" the sum.
- Convolutions pad as TensorFlow does by default. Max pooling always does: on even sizes that is
  Caffe's rounding up.
- The running statistics have torchvision's momentum. TF-slim's 0.9997 suits millions of steps.
- `alpha` is TF-slim's width multiplier (`depth_multiplier`); the paper has none.
"""

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

from flaxmobile.errors import check_choice
from flaxmobile.layers import Block, Conv, Layer, MakeUnit, Place, relu
from flaxmobile.layers.branches import Branch, Mean, Module
from flaxmobile.layers.inception import InceptionNetwork
from flaxmobile.layers.rows import Max, Unit, unit_block


class Widths(NamedTuple):
    """A row of figure 5: the channels of a module's convolutions, 0 where there is none."""

    branch1x1: int
    reduce3x3: int
    branch3x3: int
    reduce_double: int
    double3x3: int
    pool_project: int


TABLE = (
    Block("pool2", Max(3, 2, "SAME"), stride=2),  # 56×56
    unit_block("conv2_reduce", 64),
    unit_block("conv2", 192, 3),
    Block("pool3", Max(3, 2, "SAME"), stride=2),  # 28×28
    Block("inception3a", Widths(64, 64, 64, 64, 96, 32)),
    Block("inception3b", Widths(64, 64, 96, 64, 96, 64)),
    Block("inception3c", Widths(0, 128, 160, 64, 96, 0), stride=2),  # 14×14
    Block("inception4a", Widths(224, 64, 96, 96, 128, 128)),
    Block("inception4b", Widths(192, 96, 128, 96, 128, 128)),
    Block("inception4c", Widths(160, 128, 160, 128, 160, 128)),
    Block("inception4d", Widths(96, 128, 192, 160, 192, 128)),
    Block("inception4e", Widths(0, 128, 192, 192, 256, 0), stride=2),  # 7×7
    Block("inception5a", Widths(352, 192, 320, 160, 224, 128)),
    Block("inception5b", Widths(352, 192, 320, 192, 224, 128)),
)
"""Figure 5 from the first pooling on, under the figure's names."""
STEM_CHANNELS = 64
STEM_MULTIPLIER = 8


class Flavour(NamedTuple):
    """Settings in which the references differ.

    Attributes:
      separable_stem: the first convolution is a depthwise and a 1×1 convolution.
      normalized_stem: its output is normalized; otherwise it has a bias.
      pool_project: overrides of figure 5's pooling widths, by module.
    """

    separable_stem: bool
    normalized_stem: bool
    pool_project: Mapping[str, int]


FLAVOURS = {
    "slim": Flavour(
        separable_stem=True,
        normalized_stem=False,
        pool_project={"inception4c": 96, "inception4d": 96},
    ),
    "paper": Flavour(separable_stem=True, normalized_stem=True, pool_project={}),
    "caffe": Flavour(separable_stem=False, normalized_stem=True, pool_project={}),
}


def module(widths: Widths, pooling: Mean | Max) -> Module:
    """1×1, 3×3, two 3×3 and pooling side by side: a row of figure 5.

    Args:
      widths: channels of each convolution; without `branch1x1` the module shrinks its input by
        strides, and the pooled input passes through.
      pooling: of the last branch, where the module does not shrink.
    """
    shrinks = widths.branch1x1 == 0
    stride = 2 if shrinks else 1
    filters: tuple[Branch, ...] = (
        (
            Unit("branch3x3_reduce", widths.reduce3x3),
            Unit("branch3x3", widths.branch3x3, 3, stride),
        ),
        (
            Unit("double3x3_reduce", widths.reduce_double),
            Unit("double3x3_1", widths.double3x3, 3),
            Unit("double3x3_2", widths.double3x3, 3, stride),
        ),
    )
    if shrinks:
        return (*filters, (Max(3, 2, "SAME"),))
    project = Unit("pool_project", widths.pool_project)
    return ((Unit("branch1x1", widths.branch1x1),), *filters, (pooling, project))


class InceptionV2(InceptionNetwork):
    """Figure 5 of the paper.

    Attributes:
      flavour: "slim", "paper" or "caffe", see the file's docstring.
      The others: see `InceptionNetwork`.
    """

    flavour: str = "slim"
    padding: str = "same"

    table: ClassVar[tuple[Block, ...]] = TABLE

    def check_options(self) -> None:
        """Raise InputError for an option that the network does not offer."""
        super().check_options()
        check_choice("flavour", self.flavour, FLAVOURS)

    @property
    def stem_multiplier(self) -> int:
        """Depthwise outputs per image channel of a separable first layer."""
        return min(self.width(STEM_CHANNELS) // 3, STEM_MULTIPLIER)

    def blocks(self) -> list[Block]:
        """List the rows of figure 5 in order."""
        stem = [unit_block("stem", STEM_CHANNELS, 7, stride=2)]
        if FLAVOURS[self.flavour].separable_stem:
            stem = [Block("stem_depthwise", stride=2), Block("stem_pointwise")]
        return self.scaled([*stem, *map(self._resolve, self.table)])

    def _resolve(self, block: Block) -> Block:
        """Turn widths into branches."""
        if not isinstance(widths := block.row, Widths):
            return block
        project = FLAVOURS[self.flavour].pool_project.get(block.name, widths.pool_project)
        pooling = Max(3, 1, "symmetric") if block.name == "inception5b" else Mean()
        return block._replace(row=module(widths._replace(pool_project=project), pooling))

    def build(self, place: Place, unit: MakeUnit) -> Layer:
        """Make the layer of a row of branches, or of the separable stem."""
        if place.name == "stem_depthwise":  # [n, h/2, w/2, 24]
            return self._stem_depthwise()
        if place.name == "stem_pointwise":
            folded = self.folded or not FLAVOURS[self.flavour].normalized_stem
            layer: Layer = unit(
                self.width(STEM_CHANNELS), activation=relu, folded=folded, name=place.name
            )
            return layer
        return super().build(place, unit)

    def _stem_depthwise(self) -> Conv:
        return Conv(
            3 * self.stem_multiplier,
            7,
            stride=2,
            groups=3,
            padding=self.window_padding,
            use_bias=False,
            dtype=self.dtype,
            name="stem_depthwise",
        )
