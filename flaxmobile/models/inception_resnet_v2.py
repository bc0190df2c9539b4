"""Inception-ResNet-v2: Inception modules whose output is scaled and added to their input.

Paper: Szegedy et al., "Inception-v4, Inception-ResNet and the Impact of Residual Connections on
Learning", AAAI 2017 (arXiv:1602.07261). The network is its figure 15, the modules its figures 16 to
19.

Where the paper and the reference implementations differ, we follow TF-slim and timm, which agree:

- The stem is that of Inception-v3 and then a mixed block, not figure 3's.
- The modules are repeated 10, 20 and 10 times; figure 15 says 5, 10 and 5. The last one is neither
  scaled nor activated.
- Maps have 320, 1088 and 2080 channels; figures 16 to 19 say 384, 1154 and 2048.
- Residuals are scaled by 0.17, 0.10 and 0.20 (section 3.3: between 0.1 and 0.3), and the 1×1
  convolution that widens them has a bias and no normalization.
"""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from flaxmobile.layers import Block, Conv, ConvNorm, Layer, MakeUnit, Place, relu
from flaxmobile.layers.branches import Branches, Mean, Module
from flaxmobile.layers.inception import InceptionNetwork
from flaxmobile.layers.rows import Max, Unit, unit_block
from flaxmobile.models.inception_v4 import STEM, check_repeats, numbered

MIXED_5B: Module = (
    (Unit("branch1x1", 96),),
    (Unit("branch5x5_reduce", 48), Unit("branch5x5", 64, 5)),
    (Unit("double3x3_reduce", 64), Unit("double3x3_1", 96, 3), Unit("double3x3_2", 96, 3)),
    (Mean(count_padding=False), Unit("pool_project", 64)),
)
BLOCK_35: Module = (
    (Unit("branch1x1", 32),),
    (Unit("branch3x3_reduce", 32), Unit("branch3x3", 32, 3)),
    (Unit("double3x3_reduce", 32), Unit("double3x3_1", 48, 3), Unit("double3x3_2", 64, 3)),
)
"""Figure 16, on maps of stride 8."""
MIXED_6A: Module = (
    (Unit("branch3x3", 384, 3, stride=2, valid=True),),
    (
        Unit("double3x3_reduce", 256),
        Unit("double3x3_1", 256, 3),
        Unit("double3x3_2", 384, 3, stride=2, valid=True),
    ),
    (Max(),),
)
"""Figure 7 with k, l, m, n of table 1."""
BLOCK_17: Module = (
    (Unit("branch1x1", 192),),
    (
        Unit("branch7x7_reduce", 128),
        Unit("branch7x7_1x7", 160, (1, 7)),
        Unit("branch7x7_7x1", 192, (7, 1)),
    ),
)
"""Figure 17, on maps of stride 16."""
MIXED_7A: Module = (
    (Unit("branch3x3_a_reduce", 256), Unit("branch3x3_a", 384, 3, stride=2, valid=True)),
    (Unit("branch3x3_b_reduce", 256), Unit("branch3x3_b", 288, 3, stride=2, valid=True)),
    (
        Unit("double3x3_reduce", 256),
        Unit("double3x3_1", 288, 3),
        Unit("double3x3_2", 320, 3, stride=2, valid=True),
    ),
    (Max(),),
)
"""Figure 18; the tutorials' `Mixed_7a` with 1088 channels is this one."""
BLOCK_8: Module = (
    (Unit("branch1x1", 192),),
    (
        Unit("branch3x3_reduce", 192),
        Unit("branch3x3_1x3", 224, (1, 3)),
        Unit("branch3x3_3x1", 256, (3, 1)),
    ),
)
"""Figure 19, on maps of stride 32."""


class Residual(NamedTuple):
    """Branches whose scaled output is added to their input.

    Attributes:
      branches: of the module.
      scale: of what is added (section 3.3).
      activation: ReLU after the addition.
    """

    branches: Module
    scale: float
    activation: bool = True


class ResidualBranches(nn.Module):
    """Branches, widened by a 1×1 convolution, scaled and added to the input: figure 16.

    Attributes:
      branches, unit: see `flaxmobile.layers.branches.Branches`.
      scale, activation: see `Residual`.
      dtype: type of the arithmetic.
    """

    branches: Module
    scale: float
    activation: bool = True
    unit: Callable[..., nn.Module] = ConvNorm
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map x [n, h, w, c] to the same shape."""
        y = Branches(self.branches, unit=self.unit, name="branches")(x, train)
        y = x + self.scale * Conv(x.shape[-1], dtype=self.dtype, name="widen")(y)
        return relu(y) if self.activation else y


class InceptionResNetV2(InceptionNetwork):
    """Figure 15 of the paper.

    Attributes:
      repeats: how often figures 16, 17 and 19 are repeated; the last of figure 19 has no activation
        and no scale.
      The others: see `InceptionNetwork`.
    """

    repeats: tuple[int, int, int] = (10, 20, 10)

    min_image_size: ClassVar[int] = 75

    def check_options(self) -> None:
        """Raise InputError for an option that the network does not offer."""
        super().check_options()
        check_repeats(self.repeats)

    def blocks(self) -> list[Block]:
        """List the rows of figure 15 in order."""
        a, b, c = self.repeats
        *blocks_8, last = numbered("block8_", Residual(BLOCK_8, 0.20), c)
        table = (
            *STEM,
            Block("stem_pool1", Max(), stride=2),
            unit_block("stem_conv4", 80),
            unit_block("stem_conv5", 192, 3, valid=True),
            Block("stem_pool2", Max(), stride=2),
            Block("mixed5b", MIXED_5B),
            *numbered("block35_", Residual(BLOCK_35, 0.17), a),
            Block("mixed6a", MIXED_6A, stride=2),
            *numbered("block17_", Residual(BLOCK_17, 0.10), b),
            Block("mixed7a", MIXED_7A, stride=2),
            *blocks_8,
            last._replace(row=Residual(BLOCK_8, 1.0, activation=False)),
            unit_block("conv7b", 1536),
        )
        return self.scaled(table)

    def build(self, place: Place, unit: MakeUnit) -> Layer:
        """Make the layer of a row."""
        if not isinstance(place.row, Residual):
            return super().build(place, unit)
        return ResidualBranches(*place.row, unit=unit, dtype=self.dtype, name=place.name)

    def scale(self, row: Any) -> Any:
        """Scale a row to the network's width."""
        if isinstance(row, Residual):
            return row._replace(branches=super().scale(row.branches))
        return super().scale(row)
