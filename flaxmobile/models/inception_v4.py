"""Inception-v4: a uniform Inception network without shortcuts.

Paper: Szegedy et al., "Inception-v4, Inception-ResNet and the Impact of Residual Connections on
Learning", AAAI 2017 (arXiv:1602.07261). The network is its figure 9, the modules its figures 3 to
8.

Where the paper and the reference implementations differ, we follow TF-slim and timm, which agree:

- Every convolution is followed by batch normalization (epsilon 1e-3) and ReLU; figure 9 shows none.
- Figure 4's 1×1 convolutions of the pooled branch come after an average that counts pixels of the
  image alone.
- TF-slim's auxiliary classifier is not in timm and not in the paper's figures: left out.
"""

import math
from collections.abc import Callable
from typing import ClassVar

from flax import linen as nn
from jax import Array

from flaxmobile.errors import InputError
from flaxmobile.layers import Network, relu, thin_channels
from flaxmobile.layers.branches import MEAN, SHRINK, Branch, Branches, Fork, Unit

STEM_CHANNELS = (32, 32, 64)

Block = tuple[Branch, ...]

MIXED_3A: Block = ((SHRINK,), (Unit("conv3x3", 96, 3, stride=2),))
MIXED_4A: Block = (
    (Unit("branch3x3_reduce", 64), Unit("branch3x3", 96, 3, valid=True)),
    (
        Unit("branch7x7_reduce", 64),
        Unit("branch7x7_1x7", 64, (1, 7)),
        Unit("branch7x7_7x1", 64, (7, 1)),
        Unit("branch7x7_3x3", 96, 3, valid=True),
    ),
)
"""The stem's parallel parts: figure 3."""
MIXED_5A: Block = ((Unit("conv3x3", 192, 3, stride=2),), (SHRINK,))

INCEPTION_A: Block = (
    (Unit("branch1x1", 96),),
    (Unit("branch3x3_reduce", 64), Unit("branch3x3", 96, 3)),
    (Unit("double3x3_reduce", 64), Unit("double3x3_1", 96, 3), Unit("double3x3_2", 96, 3)),
    (MEAN, Unit("pool_project", 96)),
)
"""Figure 4, on maps of stride 8."""
REDUCTION_A: Block = (
    (Unit("branch3x3", 384, 3, stride=2),),
    (
        Unit("double3x3_reduce", 192),
        Unit("double3x3_1", 224, 3),
        Unit("double3x3_2", 256, 3, stride=2),
    ),
    (SHRINK,),
)
"""Figure 7 with k, l, m, n of table 1."""
INCEPTION_B: Block = (
    (Unit("branch1x1", 384),),
    (
        Unit("branch7x7_reduce", 192),
        Unit("branch7x7_1x7", 224, (1, 7)),
        Unit("branch7x7_7x1", 256, (7, 1)),
    ),
    (
        Unit("double7x7_reduce", 192),
        Unit("double7x7_1_7x1", 192, (7, 1)),
        Unit("double7x7_1_1x7", 224, (1, 7)),
        Unit("double7x7_2_7x1", 224, (7, 1)),
        Unit("double7x7_2_1x7", 256, (1, 7)),
    ),
    (MEAN, Unit("pool_project", 128)),
)
"""Figure 5, on maps of stride 16."""
REDUCTION_B: Block = (
    (Unit("branch3x3_reduce", 192), Unit("branch3x3", 192, 3, stride=2)),
    (
        Unit("branch7x7_reduce", 256),
        Unit("branch7x7_1x7", 256, (1, 7)),
        Unit("branch7x7_7x1", 320, (7, 1)),
        Unit("branch7x7_3x3", 320, 3, stride=2),
    ),
    (SHRINK,),
)
"""Figure 8."""
INCEPTION_C: Block = (
    (Unit("branch1x1", 256),),
    (
        Unit("branch3x3_reduce", 384),
        Fork((Unit("branch3x3_1x3", 256, (1, 3)), Unit("branch3x3_3x1", 256, (3, 1)))),
    ),
    (
        Unit("double3x3_reduce", 384),
        Unit("double3x3_1_3x1", 448, (3, 1)),
        Unit("double3x3_1_1x3", 512, (1, 3)),
        Fork((Unit("double3x3_2_1x3", 256, (1, 3)), Unit("double3x3_2_3x1", 256, (3, 1)))),
    ),
    (MEAN, Unit("pool_project", 256)),
)
"""Figure 6, on maps of stride 32."""


def named_blocks(repeats: tuple[int, int, int]) -> list[tuple[int, str, Block]]:
    """Output stride, name and branches of each block after the first three convolutions."""
    a, b, c = repeats
    return [
        (4, "mixed3a", MIXED_3A),
        (4, "mixed4a", MIXED_4A),
        (8, "mixed5a", MIXED_5A),
        *((8, f"inception_a{i}", INCEPTION_A) for i in range(1, a + 1)),
        (16, "reduction_a", REDUCTION_A),
        *((16, f"inception_b{i}", INCEPTION_B) for i in range(1, b + 1)),
        (32, "reduction_b", REDUCTION_B),
        *((32, f"inception_c{i}", INCEPTION_C) for i in range(1, c + 1)),
    ]


class InceptionV4(Network):
    """Figure 9 of the paper.

    Attributes:
      alpha: width multiplier, above 0; no layer is thinner than 16 channels.
      repeats: how often modules A, B and C are repeated.
      The others: see `Network`. `output_stride` is 32.
    """

    alpha: float = 1.0
    repeats: tuple[int, int, int] = (4, 7, 3)
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
        for stride, name, branches in named_blocks(self.repeats):
            if stride > self.deepest_stride:
                break
            x = Branches(branches, self.alpha, conv, name=name)(x, train)
            if name != "mixed4a":  # timm and the oracles take stride 4's map before it
                endpoints[stride] = x
        if self.out_strides is not None:
            return {stride: endpoints[stride] for stride in self.out_strides}
        return self.classify(x, train)


def stem(images: Array, alpha: float, conv: Callable[..., nn.Module], train: bool) -> Array:
    """Map images [n, h, w, 3] to [n, (h - 1) // 2 - 2, (w - 1) // 2 - 2, 64]: figures 3 and 14."""
    widths = [thin_channels(channels, alpha) for channels in STEM_CHANNELS]
    x = conv(widths[0], 3, stride=2, padding="VALID", activation=relu, name="stem_conv1")(
        images, train
    )
    x = conv(widths[1], 3, padding="VALID", activation=relu, name="stem_conv2")(x, train)
    y: Array = conv(widths[2], 3, activation=relu, name="stem_conv3")(x, train)
    return y


def check_width_and_repeats(alpha: float, repeats: tuple[int, ...]) -> None:
    """Raise InputError for a width or a number of repeats that cannot be."""
    if not 0 < alpha < math.inf:
        raise InputError(f"alpha is {alpha}; accepted: any number above 0")
    if len(repeats) != 3 or not all(isinstance(r, int) and r > 0 for r in repeats):
        raise InputError(f"repeats is {list(repeats)}; accepted: three whole numbers above 0")
