"""MobileNet V4's tables: the convolutional networks of the paper's appendix, as timm has them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Conv(NamedTuple):
    """A row that is a single convolution."""

    channels: int
    kernel: int = 1
    stride: int = 1


class Fused(NamedTuple):
    """A fused inverted bottleneck ("FusedIB"): a 3×3 convolution expands."""

    channels: int
    expansion: int
    stride: int


class UIB(NamedTuple):
    """A universal inverted bottleneck.

    Attributes:
      channels: of the output.
      expansion: hidden channels over input channels.
      start, middle: side of the depthwise kernel before and after the expansion; 0 has none. With
        both it is the paper's "ExtraDW", with the first alone "ConvNext", with the second "IB",
        with neither "FFN".
      stride: of the last depthwise convolution.
    """

    channels: int
    expansion: int
    start: int = 0
    middle: int = 0
    stride: int = 1


class Table(NamedTuple):
    """A network: the width of its stem, and the rows of each stage."""

    stem: int
    stages: tuple[tuple[Conv | Fused | UIB, ...], ...]


SMALL = Table(
    stem=32,
    stages=(
        (Conv(32, 3, stride=2), Conv(32)),
        (Conv(96, 3, stride=2), Conv(64)),
        (UIB(96, 3, 5, 5, stride=2), *[UIB(96, 2, 0, 3)] * 4, UIB(96, 4, 3, 0)),
        (
            UIB(128, 6, 3, 3, stride=2),
            UIB(128, 4, 5, 5),
            UIB(128, 4, 0, 5),
            UIB(128, 3, 0, 5),
            UIB(128, 4, 0, 3),
            UIB(128, 4, 0, 3),
        ),
        (Conv(960),),
    ),
)
MEDIUM = Table(
    stem=32,
    stages=(
        (Fused(48, 4, stride=2),),
        (UIB(80, 4, 3, 5, stride=2), UIB(80, 2, 3, 3)),
        (
            UIB(160, 6, 3, 5, stride=2),
            UIB(160, 4, 3, 3),
            UIB(160, 4, 3, 3),
            UIB(160, 4, 3, 5),
            UIB(160, 4, 3, 3),
            UIB(160, 4, 3, 0),
            UIB(160, 2),
            UIB(160, 4, 3, 0),
        ),
        (
            UIB(256, 6, 5, 5, stride=2),
            UIB(256, 4, 5, 5),
            UIB(256, 4, 3, 5),
            UIB(256, 4, 3, 5),
            UIB(256, 4),
            UIB(256, 4, 3, 0),
            UIB(256, 2, 3, 5),
            UIB(256, 4, 5, 5),
            UIB(256, 4),
            UIB(256, 4),
            UIB(256, 2, 5, 0),
        ),
        (Conv(960),),
    ),
)
LARGE = Table(
    stem=24,
    stages=(
        (Fused(48, 4, stride=2),),
        (UIB(96, 4, 3, 5, stride=2), UIB(96, 4, 3, 3)),
        (
            UIB(192, 4, 3, 5, stride=2),
            *[UIB(192, 4, 3, 3)] * 3,
            UIB(192, 4, 3, 5),
            *[UIB(192, 4, 5, 3)] * 5,
            UIB(192, 4, 3, 0),
        ),
        (
            UIB(512, 4, 5, 5, stride=2),
            *[UIB(512, 4, 5, 5)] * 3,
            UIB(512, 4, 5, 0),
            UIB(512, 4, 5, 3),
            *[UIB(512, 4, 5, 0)] * 2,
            UIB(512, 4, 5, 3),
            UIB(512, 4, 5, 5),
            *[UIB(512, 4, 5, 0)] * 3,
        ),
        (Conv(960),),
    ),
)
TABLES: Mapping[str, Table] = MappingProxyType({"small": SMALL, "medium": MEDIUM, "large": LARGE})
"""Variant -> its network."""

HEAD_CHANNELS = 1280
"""Channels of the last convolution, behind pooling."""
