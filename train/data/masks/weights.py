"""Weights of classes by their pixels."""

import numpy as np

from train.data import balance
from train.data.masks.mask import IGNORED, decode_mask
from train.data.records import Source

_MOST = 1000
"""Most masks that are read; a larger split is sampled evenly."""


def balanced_weights(source: Source, classes: int) -> tuple[float, ...]:
    """Weigh classes by the inverse of their pixels in the training masks, 1 on average over them.

    Raises:
      InputError: a mask cannot be read.
    """
    counts = np.zeros(IGNORED + 1, np.int64)
    places = np.linspace(0, len(source) - 1, min(_MOST, len(source))).round().astype(int)
    for place in places.tolist():
        counts += np.bincount(decode_mask(source[place].label).ravel(), minlength=len(counts))
    return balance.weights_of_counts(counts[:classes])
