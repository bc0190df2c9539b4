"""Tables 1 and 2 of MobileNet V3's paper, and how they scale; see `mobilenet_v3` for the rules."""

from typing import NamedTuple

from flaxmobile.layers import Block, round_channels


class Stage(NamedTuple):
    """Rows of the tables with equal output channels: the first has the stride."""

    channels: int
    expanded: tuple[int, ...]
    kernel: int
    squeeze: bool
    swish: bool
    stride: int


class Table(NamedTuple):
    """A network: its bottlenecks, and the width of the hidden layer before the classifier."""

    stages: tuple[Stage, ...]
    hidden: int


LARGE = Table(
    stages=(
        Stage(16, expanded=(16,), kernel=3, squeeze=False, swish=False, stride=1),
        Stage(24, expanded=(64, 72), kernel=3, squeeze=False, swish=False, stride=2),
        Stage(40, expanded=(72, 120, 120), kernel=5, squeeze=True, swish=False, stride=2),
        Stage(80, expanded=(240, 200, 184, 184), kernel=3, squeeze=False, swish=True, stride=2),
        Stage(112, expanded=(480, 672), kernel=3, squeeze=True, swish=True, stride=1),
        Stage(160, expanded=(672, 960, 960), kernel=5, squeeze=True, swish=True, stride=2),
    ),
    hidden=1280,
)
SMALL = Table(
    stages=(
        Stage(16, expanded=(16,), kernel=3, squeeze=True, swish=False, stride=2),
        Stage(24, expanded=(72, 88), kernel=3, squeeze=False, swish=False, stride=2),
        Stage(40, expanded=(96, 240, 240), kernel=5, squeeze=True, swish=True, stride=2),
        Stage(48, expanded=(120, 144), kernel=5, squeeze=True, swish=True, stride=1),
        Stage(96, expanded=(288, 576, 576), kernel=5, squeeze=True, swish=True, stride=2),
    ),
    hidden=1024,
)
STEM_CHANNELS = 16
LAST_EXPANSION = 6
"""Channels of the 1×1 convolution after the blocks, over the last block's."""


class Row(NamedTuple):
    """A row of a table, its widths scaled."""

    stage: Stage
    input_channels: int
    expanded_channels: int
    channels: int

    @property
    def expands(self) -> bool:
        """Whether the block has the layer that widens its input."""
        return self.expanded_channels != self.input_channels


class Scaled(NamedTuple):
    """A network at a width: channels of stem, bottlenecks, last convolution and hidden layer."""

    stem: int
    blocks: tuple[Block, ...]
    last: int
    hidden: int


def scale(
    table: Table,
    alpha: float,
    last_channel: str,
    reduced_tail: bool = False,
    reduced_expansion: bool = False,
) -> Scaled:
    """Scale a table by the options of `MobileNetV3`; each block's row is a `Row`."""
    torchvision = last_channel == "torchvision"
    fixed = alpha if torchvision else max(1.0, alpha)
    stem = previous = round_channels(STEM_CHANNELS * (1.0 if last_channel == "keras" else fixed))
    previous_in_table, blocks = STEM_CHANNELS, []
    for number, stage in enumerate(table.stages, start=1):
        halved = 2 if reduced_tail and number == len(table.stages) else 1
        channels = stage.channels // halved
        for block, expanded in enumerate(stage.expanded, start=1):
            if block > 1 or reduced_expansion:  # the first one expands the previous stage
                expanded //= halved
            hidden_channels = (
                expanded * alpha if torchvision else expanded * previous / previous_in_table
            )
            widths = (previous, round_channels(hidden_channels), round_channels(channels * alpha))
            stride = stage.stride if block == 1 else 1
            blocks.append(Block(f"stage{number}_block{block}", Row(stage, *widths), stride))
            previous, previous_in_table = widths[-1], channels
    last = LAST_EXPANSION * previous
    if last_channel == "paper":
        last = round_channels(LAST_EXPANSION * channels * alpha)
    hidden = round_channels(table.hidden // (2 if reduced_tail else 1) * fixed)
    return Scaled(stem, tuple(blocks), last, hidden)
