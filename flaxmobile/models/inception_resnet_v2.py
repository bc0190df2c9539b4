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
from typing import ClassVar

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from flaxmobile.layers import Conv, ConvNorm, Network, max_pool, relu, thin_channels
from flaxmobile.layers.branches import MEAN, SHRINK, Branch, Branches, Unit
from flaxmobile.models.inception_v4 import check_width_and_repeats, stem

STEM_CHANNELS = (80, 192)
"""Of the stem's convolutions on maps of stride 4; those before are Inception-v4's."""
HEAD_CHANNELS = 1536

Block = tuple[Branch, ...]

MIXED_5B: Block = (
    (Unit("branch1x1", 96),),
    (Unit("branch5x5_reduce", 48), Unit("branch5x5", 64, 5)),
    (Unit("double3x3_reduce", 64), Unit("double3x3_1", 96, 3), Unit("double3x3_2", 96, 3)),
    (MEAN, Unit("pool_project", 64)),
)
BLOCK_35: Block = (
    (Unit("branch1x1", 32),),
    (Unit("branch3x3_reduce", 32), Unit("branch3x3", 32, 3)),
    (Unit("double3x3_reduce", 32), Unit("double3x3_1", 48, 3), Unit("double3x3_2", 64, 3)),
)
"""Figure 16, on maps of stride 8."""
MIXED_6A: Block = (
    (Unit("branch3x3", 384, 3, stride=2),),
    (
        Unit("double3x3_reduce", 256),
        Unit("double3x3_1", 256, 3),
        Unit("double3x3_2", 384, 3, stride=2),
    ),
    (SHRINK,),
)
"""Figure 7 with k, l, m, n of table 1."""
BLOCK_17: Block = (
    (Unit("branch1x1", 192),),
    (
        Unit("branch7x7_reduce", 128),
        Unit("branch7x7_1x7", 160, (1, 7)),
        Unit("branch7x7_7x1", 192, (7, 1)),
    ),
)
"""Figure 17, on maps of stride 16."""
MIXED_7A: Block = (
    (Unit("branch3x3_a_reduce", 256), Unit("branch3x3_a", 384, 3, stride=2)),
    (Unit("branch3x3_b_reduce", 256), Unit("branch3x3_b", 288, 3, stride=2)),
    (
        Unit("double3x3_reduce", 256),
        Unit("double3x3_1", 288, 3),
        Unit("double3x3_2", 320, 3, stride=2),
    ),
    (SHRINK,),
)
"""Figure 18; the tutorials' `Mixed_7a` with 1088 channels is this one."""
BLOCK_8: Block = (
    (Unit("branch1x1", 192),),
    (
        Unit("branch3x3_reduce", 192),
        Unit("branch3x3_1x3", 224, (1, 3)),
        Unit("branch3x3_3x1", 256, (3, 1)),
    ),
)
"""Figure 19, on maps of stride 32."""


class ResidualBranches(nn.Module):
    """Branches, widened by a 1×1 convolution, scaled and added to the input: figures 16, 17 and 19.

    Attributes:
      branches, alpha, conv: see `flaxmobile.layers.branches.Branches`.
      scale: of what is added (section 3.3).
      activation: ReLU after the addition.
      dtype: type of the arithmetic.
    """

    branches: Block
    scale: float
    alpha: float = 1.0
    activation: bool = True
    conv: Callable[..., nn.Module] = ConvNorm
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map x [n, h, w, c] to the same shape."""
        y = Branches(self.branches, self.alpha, self.conv, name="branches")(x, train)
        y = x + self.scale * Conv(x.shape[-1], dtype=self.dtype, name="widen")(y)
        return relu(y) if self.activation else y


def named_blocks(repeats: tuple[int, int, int]) -> list[tuple[int, str, Block, float]]:
    """Output stride, name, branches and scale (0: no shortcut) of each block after the stem."""
    a, b, c = repeats
    return [
        (8, "mixed5b", MIXED_5B, 0.0),
        *((8, f"block35_{i}", BLOCK_35, 0.17) for i in range(1, a + 1)),
        (16, "mixed6a", MIXED_6A, 0.0),
        *((16, f"block17_{i}", BLOCK_17, 0.10) for i in range(1, b + 1)),
        (32, "mixed7a", MIXED_7A, 0.0),
        *((32, f"block8_{i}", BLOCK_8, 0.20) for i in range(1, c + 1)),
    ]


class InceptionResNetV2(Network):
    """Figure 15 of the paper.

    Attributes:
      alpha: width multiplier, above 0; no layer is thinner than 16 channels.
      repeats: how often figures 16, 17 and 19 are repeated; the last of figure 19 has no activation
        and no scale.
      The others: see `Network`. `output_stride` is 32.
    """

    alpha: float = 1.0
    repeats: tuple[int, int, int] = (10, 20, 10)
    norm_epsilon: float = 1e-3

    min_image_size: ClassVar[int] = 75
    output_strides: ClassVar[tuple[int, ...]] = (32,)
    crops_edges: ClassVar[bool] = True

    def check(self) -> None:
        """Raise InputError for an option that the network does not offer."""
        super().check()
        check_width_and_repeats(self.alpha, self.repeats)

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Array | dict[int, Array]:
        """Map images [n, h, w, 3] to logits [n, num_classes], or to {stride: features}."""
        self.check()
        conv = self.conv_norm()
        x = stem(self.check_images(images), self.alpha, conv, train)  # [n, h/2, w/2, 64]
        endpoints = {2: x}
        if self.deepest_stride > 2:
            x = endpoints[4] = self._second_stem(max_pool(x, 3, 2, "VALID"), train)
        if self.deepest_stride > 4:
            x = max_pool(x, 3, 2, "VALID")  # [n, h/8, w/8, 192]
        blocks = named_blocks(self.repeats)
        for stride, name, branches, scale in blocks:
            if stride > self.deepest_stride:
                break
            if scale == 0:
                block: nn.Module = Branches(branches, self.alpha, conv, name=name)
            else:
                ends = name == blocks[-1][1]
                block = ResidualBranches(
                    branches,
                    1.0 if ends else scale,
                    self.alpha,
                    activation=not ends,
                    conv=conv,
                    dtype=self.dtype,
                    name=name,
                )
            x = endpoints[stride] = block(x, train)
        if self.deepest_stride >= 32:
            width = thin_channels(HEAD_CHANNELS, self.alpha)
            x = endpoints[32] = conv(width, activation=relu, name="conv7b")(x, train)
        if self.out_strides is not None:
            return {stride: endpoints[stride] for stride in self.out_strides}
        return self.classify(x, train)

    def _second_stem(self, x: Array, train: bool) -> Array:
        """Map x [n, h, w, 64] to [n, h - 2, w - 2, 192]."""
        conv = self.conv_norm(activation=relu)
        narrow, wide = (thin_channels(channels, self.alpha) for channels in STEM_CHANNELS)
        x = conv(narrow, name="stem_conv4")(x, train)
        return conv(wide, 3, padding="VALID", name="stem_conv5")(x, train)
