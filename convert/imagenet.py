"""Names of ImageNet's classes: what 1000 outputs mean, whoever trained the network.

The names are torchvision's (`torchvision/models/_meta.py`): the first lemma of each WordNet synset,
in the order of the synsets' numbers, which every origin here follows.
"""

import functools
from pathlib import Path

_FILE = Path(__file__).with_name("imagenet_classes.txt")

BACKGROUND = "background"
"""Class 0 of networks with 1001 outputs, as TF-slim and MediaPipe train them."""


def class_names(num_classes: int) -> tuple[str, ...] | None:
    """The names of a classifier with as many classes as ImageNet, with or without background."""
    names = _names()
    return {len(names): names, 1 + len(names): (BACKGROUND, *names)}.get(num_classes)


@functools.cache
def _names() -> tuple[str, ...]:
    return tuple(_FILE.read_text(encoding="utf-8").splitlines())
