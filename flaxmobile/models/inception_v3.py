"""Inception V3: n×n convolutions factorised into 1×n and n×1.

Paper: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016
(arXiv:1512.00567). The network is its table 1 as TF-slim and torchvision ship it, with another stem
(1×1 to 80 channels, then 3×3 to 192 and pooling) and other first modules (a 5×5 beside two 3×3).

- Convolutions of the stem and of the modules that shrink have no padding; all others keep the size,
  so that `padding` changes one thing: with "same" average pooling leaves the padding out of its
  means, as TensorFlow does.
- The auxiliary classifier averages 5×5 with stride 3, which needs images of at least 299; smaller
  maps, which torchvision refuses, are averaged into 5×5 bins.
- `variant="fid"` is the network of TensorFlow's graph of 2015-12-05, by which the Fréchet inception
  distance is measured: averages leave the padding out, and the last module pools by maximum. Its
  weights have 1008 classes.
- `alpha` is TF-slim's width multiplier (`depth_multiplier`); the paper has none.
"""

from collections.abc import Callable, Mapping
from typing import ClassVar

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from flaxmobile.errors import check_choice
from flaxmobile.layers import (
    Block,
    ConvNorm,
    Maps,
    adaptive_avg_pool,
    avg_pool,
    relu,
    thin_channels,
)
from flaxmobile.layers.branches import Fork, Mean, Module
from flaxmobile.layers.inception import TransformingInception
from flaxmobile.layers.rows import Max, Unit, unit_block
from flaxmobile.ops import global_mean


def mixed5(pool_project: int) -> Module:
    """1×1, 5×5, two 3×3 and pooling side by side: figure 5, on maps of stride 8."""
    return (
        (Unit("branch1x1", 64),),
        (Unit("branch5x5_reduce", 48), Unit("branch5x5", 64, 5)),
        (Unit("double3x3_reduce", 64), Unit("double3x3_1", 96, 3), Unit("double3x3_2", 96, 3)),
        (Mean(), Unit("pool_project", pool_project)),
    )


MIXED_6A: Module = (
    (Unit("branch3x3", 384, 3, stride=2, valid=True),),
    (
        Unit("double3x3_reduce", 64),
        Unit("double3x3_1", 96, 3),
        Unit("double3x3_2", 96, 3, stride=2, valid=True),
    ),
    (Max(),),
)
"""Convolutions beside max pooling: figure 10, from stride 8 to 16."""


def mixed6(channels: int) -> Module:
    """7×7 once and twice, each as 1×7 and 7×1: figure 6, on maps of stride 16."""
    return (
        (Unit("branch1x1", 192),),
        (
            Unit("branch7x7_reduce", channels),
            Unit("branch7x7_1x7", channels, (1, 7)),
            Unit("branch7x7_7x1", 192, (7, 1)),
        ),
        (
            Unit("double7x7_reduce", channels),
            Unit("double7x7_1_7x1", channels, (7, 1)),
            Unit("double7x7_1_1x7", channels, (1, 7)),
            Unit("double7x7_2_7x1", channels, (7, 1)),
            Unit("double7x7_2_1x7", 192, (1, 7)),
        ),
        (Mean(), Unit("pool_project", 192)),
    )


MIXED_7A: Module = (
    (Unit("branch3x3_reduce", 192), Unit("branch3x3", 320, 3, stride=2, valid=True)),
    (
        Unit("branch7x7_reduce", 192),
        Unit("branch7x7_1x7", 192, (1, 7)),
        Unit("branch7x7_7x1", 192, (7, 1)),
        Unit("branch7x7_3x3", 192, 3, stride=2, valid=True),
    ),
    (Max(),),
)
"""Convolutions beside max pooling: as figure 10, from stride 16 to 32."""

MIXED_7: Module = (
    (Unit("branch1x1", 320),),
    (
        Unit("branch3x3_reduce", 384),
        Fork((Unit("branch3x3_1x3", 384, (1, 3)), Unit("branch3x3_3x1", 384, (3, 1)))),
    ),
    (
        Unit("double3x3_reduce", 448),
        Unit("double3x3", 384, 3),
        Fork((Unit("double3x3_1x3", 384, (1, 3)), Unit("double3x3_3x1", 384, (3, 1)))),
    ),
    (Mean(), Unit("pool_project", 192)),
)
"""Branches that end in 1×3 and 3×1 side by side: figure 7, on maps of stride 32."""

TABLE = (
    unit_block("stem_conv1", 32, 3, stride=2, valid=True),  # 149×149
    unit_block("stem_conv2", 32, 3, valid=True),
    unit_block("stem_conv3", 64, 3),
    Block("stem_pool1", Max(), stride=2),  # 73×73
    unit_block("stem_conv4", 80),
    unit_block("stem_conv5", 192, 3, valid=True),
    Block("stem_pool2", Max(), stride=2),  # 35×35
    Block("mixed5b", mixed5(32)),
    Block("mixed5c", mixed5(64)),
    Block("mixed5d", mixed5(64)),
    Block("mixed6a", MIXED_6A, stride=2),  # 17×17
    Block("mixed6b", mixed6(128)),
    Block("mixed6c", mixed6(160)),
    Block("mixed6d", mixed6(160)),
    Block("mixed6e", mixed6(192)),
    Block("mixed7a", MIXED_7A, stride=2),  # 8×8
    Block("mixed7b", MIXED_7),
    Block("mixed7c", MIXED_7),
)
"""Table 1 under TF-slim's names."""
AUXILIARY_AFTER = "mixed6e"


def _fid(block: Block) -> Block:
    """Change the pooling of a block to that of the graph of 2015-12-05."""
    if not isinstance(block.row, tuple) or isinstance(block.row, Unit | Max):
        return block
    pool = Max(stride=1, padding="symmetric") if block.name == "mixed7c" else Mean(False)
    branches = (
        tuple(pool if isinstance(layer, Mean) else layer for layer in branch)
        for branch in block.row
    )
    return block._replace(row=tuple(branches))


TABLES = {"slim": TABLE, "fid": tuple(map(_fid, TABLE))}
"""Variant -> its blocks."""


class InceptionAux(nn.Module):
    """Classify an intermediate map, in training only: figure 8, with batch normalization.

    Attributes:
      num_classes, dtype: of the logits; dtype at least float32.
      alpha: width multiplier.
      unit: convolution, normalization and activation, with the network's options bound.
    """

    num_classes: int = 1000
    alpha: float = 1.0
    dtype: jnp.dtype = jnp.float32
    unit: Callable[..., nn.Module] = ConvNorm

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map x [n, h, w, c] to logits [n, num_classes]."""
        wide = jnp.promote_types(self.dtype, jnp.float32)
        x = avg_pool(x, 5, 3, "VALID") if min(x.shape[1:3]) >= 17 else adaptive_avg_pool(x, 5)
        project, conv5x5 = (thin_channels(channels, self.alpha) for channels in (128, 768))
        x = self.unit(project, activation=relu, name="project")(x, train)
        x = self.unit(conv5x5, 5, padding="VALID", activation=relu, name="conv5x5")(x, train)
        init = nn.initializers.normal(0.001)
        dense = nn.Dense(self.num_classes, kernel_init=init, dtype=wide, name="classifier")
        return dense(global_mean(x))


class InceptionV3(TransformingInception):
    """Table 1 of the paper, as TF-slim and torchvision ship it.

    Attributes:
      aux_logits: in training also sow the logits of an auxiliary classifier.
      variant: "slim" (TF-slim, torchvision), or "fid", see the file's docstring.
      The others: see `TransformingInception`.
    """

    aux_logits: bool = False
    variant: str = "slim"
    dropout_rate: float = 0.5

    tables: ClassVar[Mapping[str, tuple[Block, ...]]] = TABLES
    min_image_size: ClassVar[int] = 75
    heads: ClassVar[tuple[str, ...]] = ("auxiliary", "classifier")
    aux_weight: ClassVar[float] = 0.4

    def check_options(self) -> None:
        """Raise InputError for an option that the network does not offer."""
        super().check_options()
        check_choice("variant", self.variant, self.tables)

    def blocks(self) -> list[Block]:
        """List the rows of table 1 in order."""
        return self.scaled(self.tables[self.variant])

    def finish(self, maps: Maps, train: bool) -> Array:
        """Classify the last map, and in training one before it."""
        if self.aux_logits and self.runs_auxiliary(train):
            auxiliary = InceptionAux(
                self.num_classes, self.alpha, self.dtype, self.unit(), name="auxiliary"
            )
            logits = self.run(auxiliary, maps.by_name[AUXILIARY_AFTER], train)
            self.sow_auxiliary("auxiliary_logits", logits)
        return self.classify(maps.last, train)
