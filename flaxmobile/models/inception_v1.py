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
- Auxiliary classifiers pool to 4×4 adaptively, as torchvision's do, so that any image size goes;
  the paper's 5×5 pooling with stride 3 gives 4×4 for images of 224 alone.
- `alpha` is TF-slim's width multiplier (`depth_multiplier`); the paper has none.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array, lax

from flaxmobile.errors import InputError, unknown
from flaxmobile.layers import (
    ConvNorm,
    Dropout,
    Network,
    adaptive_avg_pool,
    max_pool,
    relu,
    thin_channels,
    to_symmetric_range,
)


class Widths(NamedTuple):
    """A row of table 1: the channels of an inception module's convolutions."""

    branch1x1: int
    reduce3x3: int
    branch3x3: int
    reduce5x5: int
    branch5x5: int
    pool_project: int


STAGES = {
    3: {
        "inception3a": Widths(64, 96, 128, 16, 32, 32),
        "inception3b": Widths(128, 128, 192, 32, 96, 64),
    },
    4: {
        "inception4a": Widths(192, 96, 208, 16, 48, 64),
        "inception4b": Widths(160, 112, 224, 24, 64, 64),
        "inception4c": Widths(128, 128, 256, 24, 64, 64),
        "inception4d": Widths(112, 144, 288, 32, 64, 64),
        "inception4e": Widths(256, 160, 320, 32, 128, 128),
    },
    5: {
        "inception5a": Widths(256, 160, 320, 32, 128, 128),
        "inception5b": Widths(384, 192, 384, 48, 128, 128),
    },
}
"""Stage, which shrinks images by 2 to its power -> module -> widths."""

STEM_CHANNELS, CONV2_CHANNELS = 64, 192
AUXILIARY_CHANNELS, AUXILIARY_HIDDEN = 128, 1024
AUXILIARY_AFTER = {"inception4a": "auxiliary1", "inception4d": "auxiliary2"}

FLAVOURS = ("torchvision", "paper")


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


class Inception(nn.Module):
    """Filter at three sizes and pool, each behind a 1×1 reduction: figure 2b.

    Attributes:
      widths: channels of each convolution.
      large_kernel: size of the third branch's convolution: 5 in the paper, 3 in torchvision.
      conv: the convolution unit, with the network's options bound.
    """

    widths: Widths
    large_kernel: int = 3
    conv: Callable[..., nn.Module] = ConvNorm

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map x [n, h, w, c] to [n, h, w, sum of the branches' widths]."""

        def unit(x: Array, features: int, name: str, kernel: int = 1) -> Array:
            return self.conv(features, kernel, activation=relu, name=name)(x, train)

        widths = self.widths
        branch1x1 = unit(x, widths.branch1x1, "branch1x1")
        branch3x3 = unit(x, widths.reduce3x3, "branch3x3_reduce")
        branch3x3 = unit(branch3x3, widths.branch3x3, "branch3x3", 3)
        branch5x5 = unit(x, widths.reduce5x5, "branch5x5_reduce")
        branch5x5 = unit(branch5x5, widths.branch5x5, "branch5x5", self.large_kernel)
        pooled = unit(max_pool(x, 3), widths.pool_project, "pool_project")
        return jnp.concatenate([branch1x1, branch3x3, branch5x5, pooled], axis=-1)


class AuxiliaryClassifier(nn.Module):
    """Classify an intermediate map, in training only: section 5.

    Attributes:
      num_classes: width of the logits.
      channels: of the 1×1 convolution.
      hidden: width of the fully connected layer.
      dropout_rate: before the last layer.
      axis_name: see `Dropout`.
      dtype: type of the fully connected layers' arithmetic.
      conv: the convolution unit, with the network's options bound.
    """

    num_classes: int
    channels: int = AUXILIARY_CHANNELS
    hidden: int = AUXILIARY_HIDDEN
    dropout_rate: float = 0.7
    axis_name: str | None = None
    dtype: jnp.dtype = jnp.float32
    conv: Callable[..., nn.Module] = ConvNorm

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map x [n, h, w, c] to logits [n, num_classes]."""
        wide = jnp.promote_types(self.dtype, jnp.float32)
        x = adaptive_avg_pool(x, 4)  # [n, 4, 4, c]
        x = self.conv(self.channels, activation=relu, name="project")(x, train)
        x = x.transpose(0, 3, 1, 2)  # torch's order
        x = x.reshape(x.shape[0], math.prod(x.shape[1:]))
        init = nn.initializers.normal(0.01)
        x = relu(nn.Dense(self.hidden, kernel_init=init, dtype=wide, name="hidden")(x))
        x = Dropout(self.dropout_rate, self.axis_name, name="dropout")(x, deterministic=not train)
        return nn.Dense(self.num_classes, kernel_init=init, dtype=wide, name="classifier")(x)


class InceptionV1(Network):
    """Table 1 of the paper.

    Attributes:
      alpha: width multiplier, above 0; no layer is thinner than 16 channels.
      flavour: "torchvision" or "paper", see above.
      aux_logits: in training also sow the logits of two auxiliary classifiers.
      aux_dropout_rate: of those.
      transform_input: take images normalized by ImageNet's statistics for weights that were trained
        on -1..1.
      The others: see `Network`.
    """

    alpha: float = 1.0
    flavour: str = "torchvision"
    aux_logits: bool = False
    aux_dropout_rate: float = 0.7
    transform_input: bool = False
    norm_epsilon: float = 1e-3

    aux_weight: ClassVar[float] = 0.3
    output_strides: ClassVar[tuple[int, ...]] = (32,)
    crops_edges: ClassVar[bool] = True
    stages: ClassVar[Mapping[int, Mapping[str, Widths]]] = STAGES

    def check(self) -> None:
        """Raise InputError for an option that the network does not offer."""
        super().check()
        if not 0 < self.alpha < math.inf:
            raise InputError(f"alpha is {self.alpha}; accepted: any number above 0")
        if self.flavour not in FLAVOURS:
            raise unknown("flavour", self.flavour, FLAVOURS)
        if not 0 <= self.aux_dropout_rate < 1:
            rate = self.aux_dropout_rate
            raise InputError(f"aux_dropout_rate is {rate}; accepted: 0 or more, below 1")

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Array | dict[int, Array]:
        """Map images [n, h, w, 3] to logits [n, num_classes], or to {stride: features}."""
        self.check()
        paper = self.flavour == "paper"
        conv = partial(self.conv_norm(), folded=self.folded or paper)
        x = self.check_images(images)
        if self.transform_input:
            x = to_symmetric_range(images).astype(self.dtype)
        narrow, wide = (thin_channels(c, self.alpha) for c in (STEM_CHANNELS, CONV2_CHANNELS))
        x = conv(narrow, 7, stride=2, activation=relu, name="stem")(x, train)
        endpoints = {2: x}  # [n, h/2, w/2, 64]
        if self.deepest_stride > 2:
            x = self._shrink(x, 3)
            x = local_response_norm(x) if paper else x
            x = conv(narrow, activation=relu, name="conv2_reduce")(x, train)
            x = conv(wide, 3, activation=relu, name="conv2")(x, train)
            x = local_response_norm(x) if paper else x
            endpoints[4] = x  # [n, h/4, w/4, 192]
        for stage, modules in self.stages.items():
            if 2**stage > self.deepest_stride:
                break
            x = self._shrink(x, 2 if stage == 5 and not paper else 3)
            for name, widths in modules.items():
                scaled = Widths(*(thin_channels(channels, self.alpha) for channels in widths))
                x = Inception(scaled, 5 if paper else 3, conv=conv, name=name)(x, train)
                auxiliary = AUXILIARY_AFTER.get(name)
                if auxiliary and self.aux_logits and self.runs_auxiliary(train):
                    logits = self._auxiliary(conv, auxiliary)(x, train)
                    self.sow_auxiliary(f"{auxiliary}_logits", logits)
            endpoints[2**stage] = x  # [n, h / 2**stage, w / 2**stage, c]
        if self.out_strides is not None:
            return {stride: endpoints[stride] for stride in self.out_strides}
        return self.classify(x, train)

    def _shrink(self, x: Array, size: int) -> Array:
        if self.padding == "same":
            return max_pool(x, size, 2, "SAME")
        return max_pool(x, size, 2, "VALID", ceil_mode=True)

    def _auxiliary(self, conv: Callable[..., nn.Module], name: str) -> AuxiliaryClassifier:
        return AuxiliaryClassifier(
            self.num_classes,
            thin_channels(AUXILIARY_CHANNELS, self.alpha),
            thin_channels(AUXILIARY_HIDDEN, self.alpha),
            self.aux_dropout_rate,
            self.axis_name,
            self.dtype,
            conv=conv,
            name=name,
        )
