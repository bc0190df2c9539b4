"""Detection: boxes from the outputs of a network, one module per step.

`faces` is BlazeFace's detector, and `face_loss` its loss. The others are SSD's: its network
(`ssdlite`), its default boxes (`boxes`), the choice among overlapping boxes (`suppression`), its
loss (`loss`), and all of it for an image (`objects`).
"""

from flaxmobile.detection.boxes import overlap
from flaxmobile.detection.face_loss import face_loss, make_matching_boxes
from flaxmobile.detection.faces import (
    IMAGE_SIZE,
    SCORE_CLIP,
    Faces,
    blend,
    decode,
    detect_faces,
    make_anchors,
)
from flaxmobile.detection.loss import Losses, ssd_loss
from flaxmobile.detection.objects import detect_objects, find_objects
from flaxmobile.detection.ssdlite import SSDLite
from flaxmobile.detection.suppression import Objects, select_objects

__all__ = [
    "IMAGE_SIZE",
    "SCORE_CLIP",
    "Faces",
    "Losses",
    "Objects",
    "SSDLite",
    "blend",
    "decode",
    "detect_faces",
    "detect_objects",
    "face_loss",
    "find_objects",
    "make_anchors",
    "make_matching_boxes",
    "overlap",
    "select_objects",
    "ssd_loss",
]
