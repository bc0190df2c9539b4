"""Names of Pascal VOC's classes, in the order of the 21 outputs of segmenters."""

NAMES = (
    "__background__",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
"""As torchvision writes them (`torchvision/models/_meta.py`)."""


def voc_names(num_classes: int) -> tuple[str, ...] | None:
    """Return VOC's names for 21 classes; None for others."""
    return NAMES if num_classes == len(NAMES) else None
