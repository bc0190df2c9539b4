"""What Megvii's ShuffleNets have in common (megvii-model/ShuffleNet-Series)."""

from collections.abc import Iterator, Sequence

from flaxmobile.preprocessing import Preprocessing

# `train.py`: OpencvResize(256), CenterCrop(224), ToBGRTensor, which leaves pixels in 0..255.
# OpenCV's linear interpolation takes 2×2 pixels however far it shrinks; ours is antialiased.
PREPROCESSING = Preprocessing(
    resize_size=256, mean=(0.0,) * 3, std=(1 / 255,) * 3, channel_order="BGR"
)

ABOUT = {"repository": "megvii-model/ShuffleNet-Series"}


def conv_norm(ours: str, theirs: str, place: int) -> Iterator[tuple[str, str]]:
    """Name a convolution at a place of a list, with its normalization behind it."""
    yield f"{ours}/conv", f"{theirs}.{place}"
    yield f"{ours}/norm", f"{theirs}.{place + 1}"


def units(blocks: Sequence[int]) -> Iterator[tuple[str, str]]:
    """Name the units of stages 2, 3, … of so many blocks: they are in one list."""
    ours = [
        f"stage{stage}_block{block}"
        for stage, count in enumerate(blocks, start=2)
        for block in range(1, count + 1)
    ]
    for index, unit in enumerate(ours):
        yield unit, f"features.{index}"
