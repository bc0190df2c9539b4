"""From a record with boxes to an example: an image, and its objects padded to a fixed number."""

import dataclasses

import numpy as np
from PIL import Image

from flaxmobile.images import UnreadableImageError
from train.data.decoding import EncodedImage
from train.data.examples import Example
from train.data.objects.annotations import Annotations
from train.data.objects.augment import BoxAugmentation, see
from train.data.records import Record

Padded = dict[str, np.ndarray]
"""Objects of an image: "boxes", float32 [objects, 4], (xmin, ymin, xmax, ymax) in pixels of the
image that the network sees; "labels", int32 [objects], 0 where there is none; "ignored", bool
[objects]."""


@dataclasses.dataclass(frozen=True)
class AugmentedBoxes:
    """Training images of a detector, without the objects that are ignored.

    Attributes:
      size: side of the images in pixels.
      objects: most objects of an image.
      augment: random changes.
    """

    size: int
    objects: int
    augment: BoxAugmentation

    def __call__(self, record: Record, rng: np.random.Generator) -> Example:
        """Return a random variant with its objects."""
        image, annotations = _decode(record)
        image, seen = self.augment(image, annotations.counted(), self.size, rng)
        return Example(np.asarray(image), _pad(seen, self.objects))


@dataclasses.dataclass(frozen=True)
class PreparedBoxes:
    """Evaluated images of a detector: scaled as a whole.

    Attributes:
      size, objects: see `AugmentedBoxes`.
    """

    size: int
    objects: int

    def __call__(self, record: Record) -> Example:
        """Return the image with its objects."""
        image, annotations = _decode(record)
        whole = np.array([0, 0, *image.size], float)
        image, seen = see(image, annotations, whole, self.size)
        return Example(np.asarray(image), _pad(seen, self.objects))

    def blank(self) -> Example:
        """Return a black image without objects."""
        pixels = np.zeros((self.size, self.size, 3), np.uint8)
        return Example(pixels, _pad(Annotations.none((self.size, self.size)), self.objects))


def _decode(record: Record) -> tuple[Image.Image, Annotations]:
    image, annotations = EncodedImage(record.encoded, record.name).decode(), record.label
    if image.size != annotations.size:
        found, said = ("{}×{}".format(*size) for size in (image.size, annotations.size))
        raise UnreadableImageError(f"{record.name} has {found} pixels, its boxes are of {said}")
    return image, annotations


def _pad(annotations: Annotations, count: int) -> Padded:
    missing = count - len(annotations.labels)
    columns = {name: getattr(annotations, name) for name in ("boxes", "labels", "ignored")}
    return {
        name: np.pad(values, [(0, missing), *[(0, 0)] * (values.ndim - 1)])
        for name, values in columns.items()
    }
