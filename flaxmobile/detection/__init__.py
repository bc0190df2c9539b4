"""Detection: boxes from the outputs of a network, one module per step.

`faces` is BlazeFace's detector. The others are SSD's: its default boxes (`boxes`), the choice among
overlapping boxes (`suppression`) and its loss (`loss`).
"""

from flaxmobile.detection.boxes import overlap
from flaxmobile.detection.faces import (
    IMAGE_SIZE,
    SCORE_CLIP,
    Faces,
    blend,
    decode,
    detect_faces,
    make_anchors,
)

__all__ = [
    "IMAGE_SIZE",
    "SCORE_CLIP",
    "Faces",
    "blend",
    "decode",
    "detect_faces",
    "make_anchors",
    "overlap",
]
