"""Facts and names that Megvii's ShuffleNets share (megvii-model/ShuffleNet-Series)."""

from collections.abc import Iterable, Iterator

from flaxmobile.layers import Block
from flaxmobile.preprocessing import Preprocessing

# `train.py`: OpencvResize(256), CenterCrop(224), ToBGRTensor, which leaves pixels in 0..255.
# OpenCV's linear interpolation reads 2×2 pixels however far it shrinks; ours is antialiased.
PREPROCESSING = Preprocessing(
    resize_size=256, mean=(0.0,) * 3, std=(1 / 255,) * 3, channel_order="BGR"
)

ABOUT = {"repository": "megvii-model/ShuffleNet-Series"}


def named_units(blocks: Iterable[Block]) -> Iterator[tuple[Block, str]]:
    """Name the units of all stages, which are in one list."""
    units = (block for block in blocks if block.name.startswith("stage"))
    for index, unit in enumerate(units):
        yield unit, f"features.{index}"
