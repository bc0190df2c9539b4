"""The embedded digits: 1,797 grey scans of 8×8 pixels, the test set of UCI's optical digits.

E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits (1998), UCI Machine Learning
Repository, https://doi.org/10.24432/C50P49, licence CC BY 4.0. digits.npz has them unchanged, in
their order.
"""

import functools
from pathlib import Path
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
        """Return where the scans of a split are, by class: 1,257 train, 180 validation, 360 test.

        Each split has all classes in equal shares.
        """
        by_class = np.argsort(self.digits, kind="stable")
        return by_class[np.isin(np.arange(len(by_class)) % 10, TENTHS[split])]


@functools.cache
def load_scans() -> Scans:
    """Load all scans."""
    with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as file:
        pixels, digits = file["pixels"], file["digits"]  # of 17 levels
    return Scans(np.round(pixels * (255 / 16)).astype(np.uint8), digits.astype(np.int64))
