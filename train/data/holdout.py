"""Images of the training split that are held out for validation."""

from collections.abc import Sequence

import numpy as np

from flaxmobile.errors import InputError

DEFAULT_SHARE = 0.1


def hold_out(labels: Sequence[int], share: float, seed: int) -> np.ndarray:
    """Choose the same share of each class.

    A class keeps at least one image in training, and with two or more images gives at least one.

    Args:
      labels: class of each image.
      share: part to hold out, above 0 and below 1.
      seed: decides which images.

    Returns:
      bool [len(labels)], True for the images to hold out.

    Raises:
      InputError: no class has two images.
    """
    classes = np.asarray(labels)
    held = np.zeros(len(classes), bool)
    rng = np.random.default_rng(seed)
    for label in np.unique(classes):
        places = rng.permutation(np.flatnonzero(classes == label))
        most = len(places) - 1
        held[places[: min(most, max(1, round(share * len(places))))]] = True
    if not held.any():
        raise InputError("no class has two images: none can be held out for validation")
    return held


def describe(held: np.ndarray, share: float, seed: int) -> str:
    """Say what `hold_out` did."""
    return (
        f"no validation split: {held.sum()} of {len(held)} training images are held out for it, "
        f"{share:.3g} of each class by seed {seed} (--val-split)"
    )
