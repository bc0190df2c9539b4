"""Names of COCO's objects, in the order of the 91 outputs of detectors trained on it.

The names are torchvision's (`torchvision/models/_meta.py`). COCO has 80 of its 90 numbers; the
others are "N/A", and class 0 is the background.
"""

import functools
from pathlib import Path

_FILE = Path(__file__).with_name("coco_classes.txt")


def class_names(num_classes: int) -> tuple[str, ...] | None:
    """Return COCO's names for 91 classes; None for others."""
    names = _names()
    return names if num_classes == len(names) else None


@functools.cache
def _names() -> tuple[str, ...]:
    return tuple(_FILE.read_text(encoding="utf-8").splitlines())
