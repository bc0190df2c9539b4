"""Images of the training split that are held out for validation."""

from collections.abc import Sequence
from typing import Protocol, Self, TypeVar

import numpy as np

from flaxmobile.errors import InputError
from train.data.records import Selection, Source

DEFAULT_SHARE = 0.1


class Divisible(Source, Protocol):
    """A source that can be divided."""

    def part(self, chosen: np.ndarray) -> Self:
        """Return a source of the records where `chosen`, bool [len(self)], is true."""


S = TypeVar("S", bound=Divisible)


def ensure_validation(
    train: S, validation: S | None, selection: Selection, origin: str
) -> tuple[S, S, tuple[str, ...]]:
    """Hold out training images if there is no validation split.

    Args:
      train: the training split.
      validation: the validation split, if there is one.
      selection: share and seed.
      origin: what the user calls the data.

    Returns:
      The training split, the validation split, and what there is to say.

    Raises:
      InputError: a share is given for data that has a validation split, or nothing can be held out.
    """
    if validation is not None:
        if selection.val_split is not None:
            raise InputError(
                f"--val-split {selection.val_split} holds out training images, but {origin} has a "
                "validation split: leave the flag out"
            )
        return train, validation, ()
    share = selection.val_split or DEFAULT_SHARE
    held = hold_out(train.labels(), share, selection.seed)
    if not held.any():
        raise InputError(f"no class of {origin} has two images to hold one out for validation")
    note = (
        f"no validation split: {held.sum()} of {len(held)} training images are held out for it, "
        f"{share:.3g} of each class by seed {selection.seed} (--val-split)"
    )
    return train.part(~held), train.part(held), (note,)


def hold_out(labels: Sequence[int] | np.ndarray, share: float, seed: int) -> np.ndarray:
    """Choose the same share of each class.

    A class keeps at least one image in training, and with two or more images gives at least one.

    Args:
      labels: class of each image, [n], or 0 and 1 for each class, [n, classes]: then the first
        label counts.
      share: part to hold out, above 0 and below 1.
      seed: decides which images.

    Returns:
      bool [len(labels)], True for the images to hold out.
    """
    classes = np.asarray(labels)
    if classes.ndim == 2:
        classes = classes.argmax(axis=1)
    held = np.zeros(len(classes), bool)
    rng = np.random.default_rng(seed)
    for label in np.unique(classes):
        places = rng.permutation(np.flatnonzero(classes == label))
        most = len(places) - 1
        held[places[: min(most, max(1, round(share * len(places))))]] = True
    return held
