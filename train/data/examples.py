"""From a record to an example: what a task's readers do, and those of classification."""

import dataclasses
from typing import Any, NamedTuple, Protocol

import numpy as np

from flaxmobile.preprocessing import Preprocessing
from train.data.decoding import EncodedImage
from train.data.records import Augment, Record


class Example(NamedTuple):
    """An image as the network's step takes it, and its label.

    Attributes:
      image: uint8 [h, w, 3], not yet normalized.
      label: an array, or a dictionary of arrays. Shapes are the same for all examples of a split.
    """

    image: np.ndarray
    label: Any


class TrainReader(Protocol):
    """Reads and augments a record for training. It can be pickled.

    Raises UnreadableImageError for an image that cannot be read, which may be skipped, and
    InputError for a label that is wrong.
    """

    def __call__(self, record: Record, rng: np.random.Generator) -> Example:
        """Return a random variant."""


class EvalReader(Protocol):
    """Reads and prepares a record for evaluation; errors as `TrainReader`'s. It can be pickled."""

    def __call__(self, record: Record) -> Example:
        """Return the image as the network is evaluated on it."""

    def blank(self) -> Example:
        """Return what stands in for an unreadable image and after the end of a split."""


@dataclasses.dataclass(frozen=True)
class AugmentedImages:
    """Training images of a classifier.

    Attributes:
      preprocessing: gives the size and the interpolation.
      augment: random changes of an image.
    """

    preprocessing: Preprocessing
    augment: Augment

    def __call__(self, record: Record, rng: np.random.Generator) -> Example:
        """Return a random variant with the label, int32."""
        size, interpolation = self.preprocessing.side, self.preprocessing.interpolation
        encoded = EncodedImage(record.encoded, record.name)
        image = self.augment(encoded, size, rng, interpolation)
        return Example(np.asarray(image), np.asarray(record.label, np.int32))


@dataclasses.dataclass(frozen=True)
class PreparedImages:
    """Evaluated images of a classifier.

    Attributes:
      preprocessing: resizes and crops.
      flags: number of classes where an image may have several labels; otherwise None.
    """

    preprocessing: Preprocessing
    flags: int | None = None

    def __call__(self, record: Record) -> Example:
        """Return the crop with the label, int32."""
        image = self.preprocessing.crop(EncodedImage(record.encoded, record.name).decode())
        return Example(np.asarray(image), np.asarray(record.label, np.int32))

    def blank(self) -> Example:
        """Return a black image of class 0, or of no class."""
        size = self.preprocessing.side
        label = 0 if self.flags is None else (0,) * self.flags
        return Example(np.zeros((size, size, 3), np.uint8), np.asarray(label, np.int32))
