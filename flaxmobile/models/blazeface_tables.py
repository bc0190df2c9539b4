"""BlazeFace's tables: the paper's, and those of the released models.

The paper's is its table 4. The others are read from MediaPipe's files: `face_detection_short_range`
("mediapipe"), `face_detection_back` ("mediapipe_back"), `face_detection_full_range` and
`face_detection_full_range_sparse`.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Row(NamedTuple):
    """A row of table 4. `squeezed` is the width inside a double block, 0 for a single one."""

    channels: int
    squeezed: int = 0
    stride: int = 1
    residual: bool = True


PAPER = (  # 64×64×24 on
    Row(24),
    Row(24),
    Row(48, stride=2),  # 32×32
    Row(48),
    Row(48),
    Row(96, squeezed=24, stride=2),  # 16×16
    Row(96, squeezed=24),
    Row(96, squeezed=24),
    Row(96, squeezed=24, stride=2),  # 8×8
    Row(96, squeezed=24),
    Row(96, squeezed=24),
)
MEDIAPIPE = (
    Row(24),
    Row(28),
    Row(32, stride=2),  # 32×32
    Row(36),
    Row(42),
    Row(48, stride=2),  # 16×16
    Row(56),
    Row(64),
    Row(72),
    Row(80),
    Row(88),
    Row(96, stride=2),  # 8×8
    Row(96),
    Row(96),
    Row(96),
    Row(96),
)
MEDIAPIPE_BACK = (
    *[Row(24)] * 7,  # 128×128
    Row(24, stride=2),  # 64×64
    *[Row(24)] * 7,
    Row(48, stride=2),  # 32×32
    *[Row(48)] * 7,
    Row(96, stride=2),  # 16×16
    *[Row(96)] * 7,
    Row(96, stride=2, residual=False),  # 8×8
)

FULL_RANGE = (
    Row(32, squeezed=8),  # 96×96
    Row(32, squeezed=8),
    Row(48, squeezed=12, stride=2),  # 48×48
    Row(48, squeezed=12),
    Row(64, squeezed=16),
    Row(96, squeezed=24, stride=2),  # 24×24
    Row(128, squeezed=32),
    Row(128, squeezed=32),
    Row(144, squeezed=36, stride=2),  # 12×12
    Row(192, squeezed=48),
    Row(256, squeezed=64),
    Row(384, squeezed=96, stride=2),  # 6×6
    *[Row(384, squeezed=96)] * 3,
)
FULL_RANGE_SPARSE = (
    *[Row(32, squeezed=8)] * 2,  # 96×96
    Row(64, squeezed=16, stride=2, residual=False),  # 48×48
    *[Row(64, squeezed=16)] * 2,
    Row(128, squeezed=32, stride=2, residual=False),  # 24×24
    *[Row(128, squeezed=32)] * 2,
    Row(192, squeezed=48, stride=2, residual=False),  # 12×12
    *[Row(192, squeezed=48)] * 2,
    Row(384, squeezed=96, stride=2, residual=False),  # 6×6
    *[Row(384, squeezed=96)] * 3,
)

ANCHORS = {8: 2, 16: 6}
"""Stride of a map -> anchors in each of its cells (figure 2)."""


class Step(NamedTuple):
    """A step of a decoder: stride and channels of its sum, and how many double blocks follow."""

    stride: int
    channels: int
    blocks: int


DECODER = (Step(16, 96, 2), Step(8, 64, 2), Step(4, 48, 1))
"""Decoder of the full-range models, from the map of stride 32 on."""


class Variant(NamedTuple):
    """A table, with the sizes and anchors that belong to it.

    Attributes:
      rows: of the table.
      kernel_size: of the blocks' depthwise convolutions.
      image_size: side of the images that it is for.
      anchors: as `ANCHORS`.
      stem: channels and kernel of the first convolution.
      decoder: steps from the deepest map to that of the anchors.
      spread_heads: heads compute four cells at once, see `SpreadHead`.
    """

    rows: tuple[Row, ...]
    kernel_size: int
    image_size: int = 128
    anchors: Mapping[int, int] = ANCHORS
    stem: tuple[int, int] = (24, 5)
    decoder: tuple[Step, ...] = ()
    spread_heads: bool = False


VARIANTS = {
    "paper": Variant(PAPER, 5),
    "mediapipe": Variant(MEDIAPIPE, 3),
    "mediapipe_back": Variant(MEDIAPIPE_BACK, 3, image_size=256, anchors={16: 2, 32: 6}),
    "mediapipe_full_range": Variant(FULL_RANGE, 3, 192, {4: 1}, (32, 3), DECODER),
    "mediapipe_full_range_sparse": Variant(
        FULL_RANGE_SPARSE, 3, 192, {4: 1}, (32, 3), DECODER, spread_heads=True
    ),
}

KEYPOINTS = ("right eye", "left eye", "nose tip", "mouth", "right ear", "left ear")
REGRESSORS = 4 + 2 * len(KEYPOINTS)
"""Numbers per anchor: centre x, centre y, width, height, then x and y of each keypoint."""
