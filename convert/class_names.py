"""Names of the classes of ImageNet and COCO, in the order of the outputs of networks.

The names are torchvision's (`torchvision/models/_meta.py`). ImageNet's are the first lemma of each
WordNet synset, in the order of the synsets' numbers. COCO has 80 of its 90 numbers; the others are
"N/A", and class 0 is the background.
"""

import functools
from pathlib import Path

BACKGROUND = "background"
"""Class 0 of networks with 1001 outputs, as TF-slim and MediaPipe train them."""


def imagenet_names(num_classes: int) -> tuple[str, ...] | None:
    """Return ImageNet's names for 1000 classes, or 1001 with a background; None for others."""
    names = _read("imagenet_classes.txt")
    return {len(names): names, 1 + len(names): (BACKGROUND, *names)}.get(num_classes)


def imagenet_names_without_background(num_classes: int) -> tuple[str, ...] | None:
    """Return ImageNet's names for 1000 classes; None for others."""
    names = _read("imagenet_classes.txt")
    return names if num_classes == len(names) else None


def coco_names(num_classes: int) -> tuple[str, ...] | None:
    """Return COCO's names for 91 classes, as its detectors have; None for others."""
    names = _read("coco_classes.txt")
    return names if num_classes == len(names) else None


@functools.cache
def _read(file: str) -> tuple[str, ...]:
    return tuple(Path(__file__).with_name(file).read_text(encoding="utf-8").splitlines())
