"""Training and evaluation examples of images with masks, as torchvision's references make them."""

import dataclasses
from collections.abc import Iterable

import numpy as np
from PIL import Image

from flaxmobile.preprocessing import INTERPOLATIONS, Preprocessing
from train.data.augment import place_box
from train.data.augmentation import Change
from train.data.examples import Example
from train.data.masks.mask import IGNORED, Size, decode_pair
from train.data.records import Record

_LONGEST = 2
"""Largest ratio of an evaluated image's sides; longer images are scaled down to fit."""


@dataclasses.dataclass(frozen=True)
class AugmentedMasks:
    """Training images: scaled at random, cropped, mirrored; masks alike, without interpolation.

    As in torchvision's references/segmentation. What lies outside of a small image has the mean
    colour and no class.

    Attributes:
      preprocessing: gives the side of the crop, the shorter side before the random scale, and the
        interpolation.
      classes: number of classes.
      scales: least and largest random scale.
      flip: mirror half of the images.
      changes: changes of the colours.
    """

    preprocessing: Preprocessing
    classes: int
    scales: tuple[float, float] = (0.5, 2.0)
    flip: bool = True
    changes: tuple[Change, ...] = ()

    def __call__(self, record: Record, rng: np.random.Generator) -> Example:
        """Return a random variant, and its mask uint8 [s, s]."""
        image, mask = decode_pair(record, self.classes)
        base, side = self.preprocessing.shorter_side, self.preprocessing.side
        least, largest = (round(base * scale) for scale in self.scales)
        shorter = int(rng.integers(max(1, least), max(1, largest), endpoint=True))
        scaled = _scale(image.size, shorter)
        width, height = (min(side, length) for length in scaled)
        box = place_box(width, height, *scaled, rng)
        image, mask = _sample(image, mask, scaled, box, self.preprocessing)
        for change in self.changes:
            image = change(image, rng)
        example = _pad(image, mask, (side, side), self.preprocessing)
        if self.flip and rng.random() < 0.5:
            return Example(example.image[:, ::-1], example.label[:, ::-1])
        return example


@dataclasses.dataclass(frozen=True)
class PreparedMasks:
    """Evaluated images: the shorter side resized, nothing cut off, padded to one size.

    Attributes:
      preprocessing: gives the shorter side and the interpolation.
      classes: number of classes.
      canvas: (width, height) that all images of the split fit into.
    """

    preprocessing: Preprocessing
    classes: int
    canvas: Size

    def __call__(self, record: Record) -> Example:
        """Return the image, and its mask uint8 [h, w], without a class where it is padded."""
        image, mask = decode_pair(record, self.classes)
        scaled = _fit(image.size, self.preprocessing.shorter_side)
        image, mask = _sample(image, mask, scaled, (0, 0, *scaled), self.preprocessing)
        return _pad(image, mask, self.canvas, self.preprocessing)

    def blank(self) -> Example:
        """Return a black image without any class."""
        width, height = self.canvas
        return Example(
            np.zeros((height, width, 3), np.uint8), np.full((height, width), IGNORED, np.uint8)
        )


def canvas_of(sizes: Iterable[Size], preprocessing: Preprocessing) -> Size:
    """Return the least (width, height) that the images of a split fit into in evaluation."""
    scaled = [_fit(size, preprocessing.shorter_side) for size in {*sizes}]
    return max(width for width, _ in scaled), max(height for _, height in scaled)


def _scale(size: Size, shorter: float) -> Size:
    """Return the size of an image whose shorter side is resized, rounded as torchvision's."""
    factor = shorter / min(size)
    width, height = (max(1, int(length * factor + 1e-6)) for length in size)
    return width, height


def _fit(size: Size, shorter: int) -> Size:
    return _scale(size, min(shorter, _LONGEST * shorter * min(size) / max(size)))


def _sample(
    image: Image.Image,
    mask: Image.Image,
    scaled: Size,
    box: tuple[int, int, int, int],
    preprocessing: Preprocessing,
) -> tuple[Image.Image, Image.Image]:
    """Scale both to a size and cut out a box, in one go."""
    left, top, right, bottom = box
    x, y = image.width / scaled[0], image.height / scaled[1]
    place = (left * x, top * y, min(right * x, image.width), min(bottom * y, image.height))
    size = (right - left, bottom - top)
    interpolation = INTERPOLATIONS[preprocessing.interpolation]
    return (
        image.resize(size, interpolation, place),
        mask.resize(size, Image.Resampling.NEAREST, place),
    )


def _pad(
    image: Image.Image, mask: Image.Image, canvas: Size, preprocessing: Preprocessing
) -> Example:
    """Pad both at the right and at the bottom."""
    padded = Image.new("RGB", canvas, preprocessing.mean_color)
    padded.paste(image)
    labels = Image.new("L", canvas, IGNORED)
    labels.paste(mask)
    return Example(np.asarray(padded), np.asarray(labels))
