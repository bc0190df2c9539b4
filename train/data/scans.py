"""The handwritten digits that come with scikit-learn: 1,797 grey scans of 8×8 pixels."""

import functools
from typing import NamedTuple

import numpy as np

TENTHS = {"train": (1, 3, 4, 6, 7, 8, 9), "validation": (2,), "test": (0, 5)}
"""Split -> its places among each ten digits, which are sorted by class."""


class Scans(NamedTuple):
    """All scans.

    Attributes:
      pixels: uint8 [n, 8, 8], light strokes on black.
      digits: int64 [n].
    """

    pixels: np.ndarray
    digits: np.ndarray

    def places(self, split: str) -> np.ndarray:
        """Return where the scans of a split are: 1,257 train, 180 validation, 360 test."""
        by_class = np.argsort(self.digits, kind="stable")
        return by_class[np.isin(np.arange(len(by_class)) % 10, TENTHS[split])]


@functools.cache
def load_scans() -> Scans:
    """Load all scans; scikit-learn takes a second to import."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return Scans(np.round(digits.images * (255 / 16)).astype(np.uint8), digits.target)
