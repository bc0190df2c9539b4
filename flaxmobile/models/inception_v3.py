"""Inception V3: n×n convolutions factorised into 1×n and n×1.

Paper: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016
(arXiv:1512.00567). The network is its table 1 as TF-slim and torchvision ship it, whose stem (1×1
to 80 channels, then 3×3 to 192 and pooling) and first modules (a 5×5 beside two 3×3) are others.

- Convolutions of the stem and of the modules that shrink have no padding; all others keep the size,
  so that `padding` changes one thing: with "same" average pooling leaves the padding out of its
  means, as TensorFlow does.
- The auxiliary classifier averages 5×5 with stride 3, which needs images of at least 299; smaller
  maps, which torchvision refuses, are averaged into 5×5 bins.
- `alpha` is TF-slim's width multiplier (`depth_multiplier`); the paper has none.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from flaxmobile.errors import InputError
from flaxmobile.layers import (
    ConvNorm,
    Network,
    adaptive_avg_pool,
    avg_pool,
    max_pool,
    relu,
    thin_channels,
    to_symmetric_range,
)
from flaxmobile.ops import global_mean

STEM_CHANNELS = (32, 32, 64, 80, 192)


class _Block(nn.Module):
    """What the modules share: width, whether average pooling counts padded pixels, the unit."""

    alpha: float = 1.0
    count_padding: bool = True
    conv: Callable[..., nn.Module] = ConvNorm

    def unit(self, x: Array, train: bool, name: str, channels: int, *args: Any, **kw: Any) -> Array:
        """Convolve, normalize and activate x, to `channels` at alpha 1."""
        features = thin_channels(channels, self.alpha)
        return self.conv(features, *args, activation=relu, name=name, **kw)(x, train)

    def mean(self, x: Array) -> Array:
        """Average 3×3 neighbours."""
        return avg_pool(x, 3, count_padding=self.count_padding)


class InceptionA(_Block):
    """1×1, 5×5, two 3×3 and pooling side by side: figure 5, on maps of stride 8.

    Attributes:
      pool_channels: of the 1×1 convolution behind the pooling; the others: see `_Block`.
    """

    pool_channels: int = 64

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map x [n, h, w, c] to [n, h, w, 224 + pool_channels]."""
        branch1x1 = self.unit(x, train, "branch1x1", 64)
        branch5x5 = self.unit(x, train, "branch5x5_reduce", 48)
        branch5x5 = self.unit(branch5x5, train, "branch5x5", 64, 5)
        double = self.unit(x, train, "double3x3_reduce", 64)
        double = self.unit(double, train, "double3x3_1", 96, 3)
        double = self.unit(double, train, "double3x3_2", 96, 3)
        pooled = self.unit(self.mean(x), train, "pool_project", self.pool_channels)
        return jnp.concatenate([branch1x1, branch5x5, double, pooled], axis=-1)


class InceptionB(_Block):
    """Shrink from stride 8 to 16 with convolutions beside max pooling: figure 10."""

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map x [n, h, w, c] to [n, (h - 1) // 2, (w - 1) // 2, 480 + c]."""
        shrink = {"stride": 2, "padding": "VALID"}
        branch3x3 = self.unit(x, train, "branch3x3", 384, 3, **shrink)
        double = self.unit(x, train, "double3x3_reduce", 64)
        double = self.unit(double, train, "double3x3_1", 96, 3)
        double = self.unit(double, train, "double3x3_2", 96, 3, **shrink)
        return jnp.concatenate([branch3x3, double, max_pool(x, 3, 2, "VALID")], axis=-1)


class InceptionC(_Block):
    """7×7 once and twice, each as 1×7 and 7×1: figure 6, on maps of stride 16.

    Attributes:
      channels7x7: inside the 7×7 branches; the others: see `_Block`.
    """

    channels7x7: int = 192

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map x [n, h, w, c] to [n, h, w, 768]."""
        narrow = self.channels7x7
        branch1x1 = self.unit(x, train, "branch1x1", 192)
        branch7x7 = self.unit(x, train, "branch7x7_reduce", narrow)
        branch7x7 = self.unit(branch7x7, train, "branch7x7_1x7", narrow, (1, 7))
        branch7x7 = self.unit(branch7x7, train, "branch7x7_7x1", 192, (7, 1))
        double = self.unit(x, train, "double7x7_reduce", narrow)
        double = self.unit(double, train, "double7x7_1_7x1", narrow, (7, 1))
        double = self.unit(double, train, "double7x7_1_1x7", narrow, (1, 7))
        double = self.unit(double, train, "double7x7_2_7x1", narrow, (7, 1))
        double = self.unit(double, train, "double7x7_2_1x7", 192, (1, 7))
        pooled = self.unit(self.mean(x), train, "pool_project", 192)
        return jnp.concatenate([branch1x1, branch7x7, double, pooled], axis=-1)


class InceptionD(_Block):
    """Shrink from stride 16 to 32 with convolutions beside max pooling: as figure 10."""

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map x [n, h, w, c] to [n, (h - 1) // 2, (w - 1) // 2, 512 + c]."""
        shrink = {"stride": 2, "padding": "VALID"}
        branch3x3 = self.unit(x, train, "branch3x3_reduce", 192)
        branch3x3 = self.unit(branch3x3, train, "branch3x3", 320, 3, **shrink)
        branch7x7 = self.unit(x, train, "branch7x7_reduce", 192)
        branch7x7 = self.unit(branch7x7, train, "branch7x7_1x7", 192, (1, 7))
        branch7x7 = self.unit(branch7x7, train, "branch7x7_7x1", 192, (7, 1))
        branch7x7 = self.unit(branch7x7, train, "branch7x7_3x3", 192, 3, **shrink)
        return jnp.concatenate([branch3x3, branch7x7, max_pool(x, 3, 2, "VALID")], axis=-1)


class InceptionE(_Block):
    """Branches that end in 1×3 and 3×1 side by side: figure 7, on maps of stride 32."""

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map x [n, h, w, c] to [n, h, w, 2048]."""
        branches = [self.unit(x, train, "branch1x1", 320)]
        branch3x3 = self.unit(x, train, "branch3x3_reduce", 384)
        double = self.unit(x, train, "double3x3_reduce", 448)
        double = self.unit(double, train, "double3x3", 384, 3)
        for name, wide in (("branch3x3", branch3x3), ("double3x3", double)):
            branches.append(self.unit(wide, train, f"{name}_1x3", 384, (1, 3)))
            branches.append(self.unit(wide, train, f"{name}_3x1", 384, (3, 1)))
        branches.append(self.unit(self.mean(x), train, "pool_project", 192))
        return jnp.concatenate(branches, axis=-1)


class InceptionAux(_Block):
    """Classify an intermediate map, in training only: figure 8, with batch normalization.

    Attributes:
      num_classes, dtype: of the logits; dtype at least float32. The others: see `_Block`.
    """

    num_classes: int = 1000
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map x [n, h, w, c] to logits [n, num_classes]."""
        wide = jnp.promote_types(self.dtype, jnp.float32)
        x = avg_pool(x, 5, 3, "VALID") if min(x.shape[1:3]) >= 17 else adaptive_avg_pool(x, 5)
        x = self.unit(x, train, "project", 128)
        x = global_mean(self.unit(x, train, "conv5x5", 768, 5, padding="VALID"))
        init = nn.initializers.normal(0.001)
        return nn.Dense(self.num_classes, kernel_init=init, dtype=wide, name="classifier")(x)


Blocks = tuple[tuple[int, str, Callable[..., nn.Module]], ...]
BLOCKS: Blocks = (
    (8, "mixed5b", partial(InceptionA, pool_channels=32)),
    (8, "mixed5c", partial(InceptionA, pool_channels=64)),
    (8, "mixed5d", partial(InceptionA, pool_channels=64)),
    (16, "mixed6a", InceptionB),
    (16, "mixed6b", partial(InceptionC, channels7x7=128)),
    (16, "mixed6c", partial(InceptionC, channels7x7=160)),
    (16, "mixed6d", partial(InceptionC, channels7x7=160)),
    (16, "mixed6e", partial(InceptionC, channels7x7=192)),
    (32, "mixed7a", InceptionD),
    (32, "mixed7b", InceptionE),
    (32, "mixed7c", InceptionE),
)
"""Output stride, TF-slim's name, module."""


class InceptionV3(Network):
    """Table 1 of the paper, as TF-slim and torchvision ship it.

    Attributes:
      alpha: width multiplier, above 0; no layer is thinner than 16 channels.
      aux_logits: in training also sow the logits of an auxiliary classifier.
      transform_input: take images normalized by ImageNet's statistics for weights that were trained
        on -1..1.
      The others: see `Network`.
    """

    alpha: float = 1.0
    aux_logits: bool = False
    transform_input: bool = False
    dropout_rate: float = 0.5
    norm_epsilon: float = 1e-3

    min_image_size: ClassVar[int] = 75
    aux_weight: ClassVar[float] = 0.4
    output_strides: ClassVar[tuple[int, ...]] = (32,)
    crops_edges: ClassVar[bool] = True
    blocks: ClassVar[Blocks] = BLOCKS

    def check(self) -> None:
        """Raise InputError for an option that the network does not offer."""
        super().check()
        if not 0 < self.alpha < math.inf:
            raise InputError(f"alpha is {self.alpha}; accepted: any number above 0")

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Array | dict[int, Array]:
        """Map images [n, h, w, 3] to logits [n, num_classes], or to {stride: features}."""
        self.check()
        x = self.check_images(images)
        if self.transform_input:
            x = to_symmetric_range(images).astype(self.dtype)
        endpoints = self._stem(x, train)
        x = max_pool(endpoints[max(endpoints)], 3, 2, "VALID")
        settings = (self.alpha, self.padding != "same", self.conv_norm())
        for stride, name, block in self.blocks:
            if stride > self.deepest_stride:
                break
            x = endpoints[stride] = block(*settings, name=name)(x, train)
            if name == "mixed6e" and self.aux_logits and self.runs_auxiliary(train):
                head = InceptionAux(*settings, self.num_classes, self.dtype, name="auxiliary")
                self.sow_auxiliary("auxiliary_logits", head(x, train))
        if self.out_strides is not None:
            return {stride: endpoints[stride] for stride in self.out_strides}
        return self.classify(x, train)

    def _stem(self, x: Array, train: bool) -> dict[int, Array]:
        """Map images [n, h, w, 3] to the maps of strides 2 and 4."""
        conv = self.conv_norm(activation=relu)
        conv1, conv2, conv3, conv4, conv5 = (thin_channels(c, self.alpha) for c in STEM_CHANNELS)
        x = conv(conv1, 3, stride=2, padding="VALID", name="stem_conv1")(x, train)
        x = conv(conv2, 3, padding="VALID", name="stem_conv2")(x, train)
        x = conv(conv3, 3, name="stem_conv3")(x, train)
        endpoints = {2: x}  # [n, h/2, w/2, 64]
        if self.deepest_stride > 2:
            x = conv(conv4, name="stem_conv4")(max_pool(x, 3, 2, "VALID"), train)
            x = conv(conv5, 3, padding="VALID", name="stem_conv5")(x, train)
            endpoints[4] = x  # [n, h/4, w/4, 192]
        return endpoints
