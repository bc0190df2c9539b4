"""Inception V1 (GoogLeNet): modules that filter at several sizes side by side.

Paper: Szegedy et al., "Going Deeper with Convolutions", CVPR 2015 (arXiv:1409.4842). The network is
its table 1, the module its figure 2b, the auxiliary classifiers its section 5.

Two flavours:

- "torchvision" (the default) is what torchvision and TF-slim ship: batch normalization everywhere,
  3×3 in the place of the paper's 5×5 convolutions (torchvision's issue 906), no local response
  normalization, and 2×2 max pooling before module 5a.
- "paper" has no batch normalization: convolutions with biases, 5×5 convolutions, 3×3 max pooling
  throughout, and the two local response normalizations of figure 3, with the numbers of Caffe's
  GoogLeNet (the paper gives none). The paper's dropout is `dropout_rate=0.4`.

In both:

- Max pooling rounds sizes up as Caffe does; with `padding="same"` it pads as TensorFlow does.
- Auxiliary classifiers pool to 4×4 adaptively, as torchvision's do, so that any image size works;
  the paper's 5×5 pooling with stride 3 gives 4×4 only for images of 224.
- `alpha` is TF-slim's width multiplier (`depth_multiplier`); the paper has none.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array, lax

from flaxmobile.errors import check_choice, check_value
from flaxmobile.layers import (
    Block,
    ConvNorm,
    Dropout,
    Maps,
    adaptive_avg_pool,
    relu,
)
from flaxmobile.layers.branches import Module
from flaxmobile.layers.inception import TransformingInception
from flaxmobile.layers.rows import Max, Unit, unit_block


class Widths(NamedTuple):
    """A row of table 1: the channels of an inception module's convolutions."""

    branch1x1: int
    reduce3x3: int
    branch3x3: int
    reduce5x5: int
    branch5x5: int
    pool_project: int


def local_response_norm(x: Array) -> Array:
    """Divide x [n, h, w, c] by a power of the mean square of five neighbouring channels.

    Krizhevsky et al. 2012, section 3.3, with Caffe's numbers: size 5, alpha 1e-4, beta 0.75, k 1.
    """
    wide = jnp.promote_types(x.dtype, jnp.float32)
    squares = lax.reduce_window(
        jnp.square(x.astype(wide)),
        np.zeros((), wide),
        lax.add,
        (1, 1, 1, 5),
        (1, 1, 1, 1),
        ((0, 0), (0, 0), (0, 0), (2, 2)),
    )
    return (x * (1 + 1e-4 / 5 * squares) ** -0.75).astype(x.dtype)


TABLE = (
    unit_block("stem", 64, 7, stride=2),  # 112×112
    Block("pool2", Max(), stride=2),  # 56×56
    Block("norm1", local_response_norm),
    unit_block("conv2_reduce", 64),
    unit_block("conv2", 192, 3),
    Block("norm2", local_response_norm),
    Block("pool3", Max(), stride=2),  # 28×28
    Block("inception3a", Widths(64, 96, 128, 16, 32, 32)),
    Block("inception3b", Widths(128, 128, 192, 32, 96, 64)),
    Block("pool4", Max(), stride=2),  # 14×14
    Block("inception4a", Widths(192, 96, 208, 16, 48, 64)),
    Block("inception4b", Widths(160, 112, 224, 24, 64, 64)),
    Block("inception4c", Widths(128, 128, 256, 24, 64, 64)),
    Block("inception4d", Widths(112, 144, 288, 32, 64, 64)),
    Block("inception4e", Widths(256, 160, 320, 32, 128, 128)),
    Block("pool5", Max(), stride=2),  # 7×7
    Block("inception5a", Widths(256, 160, 320, 32, 128, 128)),
    Block("inception5b", Widths(384, 192, 384, 48, 128, 128)),
)
"""Table 1, with the normalizations of figure 3, which only the "paper" flavour has."""

AUXILIARY_CHANNELS, AUXILIARY_HIDDEN = 128, 1024
AUXILIARY_AFTER = {"inception4a": "auxiliary1", "inception4d": "auxiliary2"}

FLAVOURS = ("torchvision", "paper")


def module(widths: Widths, large_kernel: int) -> Module:
    """Filter at three sizes and pool, each behind a 1×1 reduction: figure 2b.

    Args:
      widths: channels of each convolution.
      large_kernel: size of the third branch's convolution: 5 in the paper, 3 in torchvision.
    """
    return (
        (Unit("branch1x1", widths.branch1x1),),
        (Unit("branch3x3_reduce", widths.reduce3x3), Unit("branch3x3", widths.branch3x3, 3)),
        (
            Unit("branch5x5_reduce", widths.reduce5x5),
            Unit("branch5x5", widths.branch5x5, large_kernel),
        ),
        (Max(3, 1, "symmetric"), Unit("pool_project", widths.pool_project)),
    )


class AuxiliaryClassifier(nn.Module):
    """Classify an intermediate map, in training only: section 5.

    Attributes:
      num_classes: width of the logits.
      channels: of the 1×1 convolution.
      hidden: width of the fully connected layer.
      dropout_rate: before the last layer.
      axis_name: see `Dropout`.
      dtype: type of the fully connected layers' arithmetic.
      unit: convolution, normalization and activation, with the network's options bound.
    """

    num_classes: int
    channels: int = AUXILIARY_CHANNELS
    hidden: int = AUXILIARY_HIDDEN
    dropout_rate: float = 0.7
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32
    unit: Callable[..., nn.Module] = ConvNorm

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map x [n, h, w, c] to logits [n, num_classes]."""
        wide = jnp.promote_types(self.dtype, jnp.float32)
        x = adaptive_avg_pool(x, 4)  # [n, 4, 4, c]
        x = self.unit(self.channels, activation=relu, name="project")(x, train)
        x = x.transpose(0, 3, 1, 2)  # torch's order
        x = x.reshape(x.shape[0], math.prod(x.shape[1:]))
        init = nn.initializers.normal(0.01)
        x = relu(nn.Dense(self.hidden, kernel_init=init, dtype=wide, name="hidden")(x))
        x = Dropout(self.dropout_rate, self.axis_name, name="dropout")(x, deterministic=not train)
        return nn.Dense(self.num_classes, kernel_init=init, dtype=wide, name="classifier")(x)


class InceptionV1(TransformingInception):
    """Table 1 of the paper.

    Attributes:
      flavour: "torchvision" or "paper", see the file's docstring.
      aux_logits: in training also sow the logits of two auxiliary classifiers.
      aux_dropout_rate: dropout of the auxiliary classifiers.
      The others: see `TransformingInception`.
    """

    flavour: str = "torchvision"
    aux_logits: bool = False
    aux_dropout_rate: float = 0.7

    heads: ClassVar[tuple[str, ...]] = ("auxiliary1", "auxiliary2", "classifier")
    aux_weight: ClassVar[float] = 0.3
    table: ClassVar[tuple[Block, ...]] = TABLE

    def check_options(self) -> None:
        """Raise InputError for an option that the network does not offer."""
        super().check_options()
        check_choice("flavour", self.flavour, FLAVOURS)
        rate = self.aux_dropout_rate
        check_value("aux_dropout_rate", rate, 0 <= rate < 1, "0 or more, below 1")

    @property
    def is_paper(self) -> bool:
        """Whether the flavour is the paper's, which normalizes no batches."""
        return self.flavour == "paper"

    def unit(self, **defaults: Any) -> partial[ConvNorm]:
        """Bind the network's options to `ConvNorm`; the paper's flavour has biases instead."""
        return partial(super().unit(**defaults), folded=self.folded or self.is_paper)

    def blocks(self) -> list[Block]:
        """List the rows of table 1 in order."""
        rows = [b for b in self.table if self.is_paper or b.row is not local_response_norm]
        return self.scaled(block._replace(row=self._resolve(block)) for block in rows)

    def _resolve(self, block: Block) -> Any:
        """Turn a row of the table into branches, or into pooling of the network's kind."""
        if isinstance(block.row, Widths):
            return module(block.row, 5 if self.is_paper else 3)
        if isinstance(block.row, Max):
            size = 2 if block.name == "pool5" and not self.is_paper else 3
            same = self.padding == "same"
            return Max(size, 2, "SAME" if same else "VALID", ceil_mode=not same)
        return block.row

    def finish(self, maps: Maps, train: bool) -> Array:
        """Classify the last map, and in training two earlier ones."""
        if self.aux_logits and self.runs_auxiliary(train):
            for block, name in AUXILIARY_AFTER.items():
                logits = self.run(self._auxiliary(name), maps.by_name[block], train)
                self.sow_auxiliary(f"{name}_logits", logits)
        return self.classify(maps.last, train)

    def _auxiliary(self, name: str) -> AuxiliaryClassifier:
        return AuxiliaryClassifier(
            self.num_classes,
            self.width(AUXILIARY_CHANNELS),
            self.width(AUXILIARY_HIDDEN),
            self.aux_dropout_rate,
            self.axis_name,
            self.dtype,
            unit=self.unit(),
            name=name,
        )
