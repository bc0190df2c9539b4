"""Inception-v4: a uniform Inception network without shortcuts.

Paper: Szegedy et al., "Inception-v4, Inception-ResNet and the Impact of Residual Connections on
Learning", AAAI 2017 (arXiv:1602.07261). The network is its figure 9, the modules its figures 3 to
8.

Where the paper and the reference implementations differ, we follow TF-slim and timm, which agree:

- Every convolution is followed by batch normalization (epsilon 1e-3) and ReLU; figure 9 shows none.
- Figure 4's 1×1 convolutions of the pooled branch come after an average that counts only pixels of
  the image.
- TF-slim's auxiliary classifier is not in timm and not in the paper's figures: left out.
"""

from typing import Any, ClassVar

from flaxmobile.errors import check_value
from flaxmobile.layers import Block
from flaxmobile.layers.branches import Fork, Mean, Module
from flaxmobile.layers.inception import InceptionNetwork
from flaxmobile.layers.rows import Max, Unit, unit_block

STEM = (
    unit_block("stem_conv1", 32, 3, stride=2, valid=True),
    unit_block("stem_conv2", 32, 3, valid=True),
    unit_block("stem_conv3", 64, 3),
)
"""Figures 3 and 14, the first three convolutions: maps of stride 2."""

MIXED_3A: Module = ((Max(),), (Unit("conv3x3", 96, 3, stride=2, valid=True),))
MIXED_4A: Module = (
    (Unit("branch3x3_reduce", 64), Unit("branch3x3", 96, 3, valid=True)),
    (
        Unit("branch7x7_reduce", 64),
        Unit("branch7x7_1x7", 64, (1, 7)),
        Unit("branch7x7_7x1", 64, (7, 1)),
        Unit("branch7x7_3x3", 96, 3, valid=True),
    ),
)
"""The stem's parallel parts: figure 3."""
MIXED_5A: Module = ((Unit("conv3x3", 192, 3, stride=2, valid=True),), (Max(),))

INCEPTION_A: Module = (
    (Unit("branch1x1", 96),),
    (Unit("branch3x3_reduce", 64), Unit("branch3x3", 96, 3)),
    (Unit("double3x3_reduce", 64), Unit("double3x3_1", 96, 3), Unit("double3x3_2", 96, 3)),
    (Mean(count_padding=False), Unit("pool_project", 96)),
)
"""Figure 4, on maps of stride 8."""
REDUCTION_A: Module = (
    (Unit("branch3x3", 384, 3, stride=2, valid=True),),
    (
        Unit("double3x3_reduce", 192),
        Unit("double3x3_1", 224, 3),
        Unit("double3x3_2", 256, 3, stride=2, valid=True),
    ),
    (Max(),),
)
"""Figure 7 with k, l, m, n of table 1."""
INCEPTION_B: Module = (
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
    (Mean(count_padding=False), Unit("pool_project", 128)),
)
"""Figure 5, on maps of stride 16."""
REDUCTION_B: Module = (
    (Unit("branch3x3_reduce", 192), Unit("branch3x3", 192, 3, stride=2, valid=True)),
    (
        Unit("branch7x7_reduce", 256),
        Unit("branch7x7_1x7", 256, (1, 7)),
        Unit("branch7x7_7x1", 320, (7, 1)),
        Unit("branch7x7_3x3", 320, 3, stride=2, valid=True),
    ),
    (Max(),),
)
"""Figure 8."""
INCEPTION_C: Module = (
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
    (Mean(count_padding=False), Unit("pool_project", 256)),
)
"""Figure 6, on maps of stride 32."""


def numbered(name: str, row: Any, count: int) -> tuple[Block, ...]:
    """Repeat a row as name1, name2 and so on."""
    return tuple(Block(f"{name}{number}", row) for number in range(1, count + 1))


def check_repeats(repeats: tuple[int, ...]) -> None:
    """Raise InputError unless there are three whole numbers above 0."""
    fine = len(repeats) == 3 and all(isinstance(r, int) and r > 0 for r in repeats)
    check_value("repeats", list(repeats), fine, "three whole numbers above 0")


class InceptionV4(InceptionNetwork):
    """Figure 9 of the paper.

    Attributes:
      repeats: how often modules A, B and C are repeated.
      The others: see `InceptionNetwork`.
    """

    repeats: tuple[int, int, int] = (4, 7, 3)

    min_image_size: ClassVar[int] = 75

    def check_options(self) -> None:
        """Raise InputError for an option that the network does not offer."""
        super().check_options()
        check_repeats(self.repeats)

    def blocks(self) -> list[Block]:
        """List the rows of figure 9 in order."""
        a, b, c = self.repeats
        table = (
            *STEM,
            Block("mixed3a", MIXED_3A, stride=2),
            Block("mixed4a", MIXED_4A, endpoint=False),  # timm takes stride 4's map before it
            Block("mixed5a", MIXED_5A, stride=2),
            *numbered("inception_a", INCEPTION_A, a),
            Block("reduction_a", REDUCTION_A, stride=2),
            *numbered("inception_b", INCEPTION_B, b),
            Block("reduction_b", REDUCTION_B, stride=2),
            *numbered("inception_c", INCEPTION_C, c),
        )
        return self.scaled(table)
