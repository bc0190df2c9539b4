"""Classes of unequal size."""

from collections.abc import Sequence

import numpy as np

_UNEQUAL = 10
"""Ratio of the largest class to the smallest from which the imbalance is reported."""


def balanced_weights(labels: Sequence[int] | np.ndarray, classes: int) -> tuple[float, ...]:
    """Weigh classes by the inverse of their size, 1 on average over the images (scikit-learn's).

    Args:
      labels: class of each training image.
      classes: number of classes; one without images weighs nothing.
    """
    return weights_of_counts(np.bincount(labels, minlength=classes))


def weights_of_counts(counts: np.ndarray) -> tuple[float, ...]:
    """Weigh classes by the inverse of their counts, 1 on average over what was counted."""
    weights = counts.sum() / (np.count_nonzero(counts) * np.maximum(1, counts))
    return tuple(np.where(counts > 0, weights, 0.0).tolist())


def describe_inequality(labels: Sequence[int] | np.ndarray, names: Sequence[str]) -> str | None:
    """Say which classes are the largest and the smallest where they differ much."""
    counts = np.bincount(labels, minlength=len(names))
    least, most = int(counts.argmin()), int(counts.argmax())
    if counts[most] < _UNEQUAL * max(1, counts[least]):
        return None
    return (
        f"classes are unequal: {counts[most]} training images of {names[most]!r}, {counts[least]} "
        f"of {names[least]!r}; --class-weights balanced weighs them"
    )
