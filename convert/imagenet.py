"""Names of ImageNet's classes, in the order of the 1000 outputs of every origin's networks.

The names are torchvision's (`torchvision/models/_meta.py`): the first lemma of each WordNet synset,
in the order of the synsets' numbers.
"""

import functools
from pathlib import Path

_FILE = Path(__file__).with_name("imagenet_classes.txt")

BACKGROUND = "background"
"""Class 0 of networks with 1001 outputs, as TF-slim and MediaPipe train them."""


def class_names(num_classes: int) -> tuple[str, ...] | None:
    """Return ImageNet's names for 1000 classes, or 1001 with a background; None for others."""
    names = _names()
    return {len(names): names, 1 + len(names): (BACKGROUND, *names)}.get(num_classes)


def class_names_without_background(num_classes: int) -> tuple[str, ...] | None:
    """Return ImageNet's names for 1000 classes; None for others."""
    return class_names(num_classes) if num_classes == len(_names()) else None


@functools.cache
def _names() -> tuple[str, ...]:
    return tuple(_FILE.read_text(encoding="utf-8").splitlines())
