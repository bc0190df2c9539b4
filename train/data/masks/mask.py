"""Masks as data sets give them, checked."""

import hashlib
import io
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image

from flaxmobile.errors import InputError
from flaxmobile.images import read_errors
from train.data.decoding import EncodedImage
from train.data.records import Record, Source

IGNORED = 255
"""Value of pixels that have no class: they are neither trained on nor evaluated."""

UNNAMED = 254
"""Class of values that a label map does not name."""

Size = tuple[int, int]
"""(width, height) in pixels."""


class EncodedMask(NamedTuple):
    """A mask of a record.

    Attributes:
      encoded: content of its file.
      name: of the file, for messages.
      table: 256 bytes, the class of each value of the file; None where values are classes.
    """

    encoded: bytes
    name: str
    table: bytes | None = None

    def __str__(self) -> str:
        """Return a digest of what the mask says, wherever its file lies."""
        return hashlib.sha256(self.encoded + (self.table or b"")).hexdigest()


class MaskSource(Source, Protocol):
    """Records whose labels are `EncodedMask`."""

    def sizes(self) -> Iterator[Size]:
        """Read the sizes of all masks from their headers; several masks may share one."""


def decode_pair(record: Record, classes: int) -> tuple[Image.Image, Image.Image]:
    """Decode image and mask of a record.

    Args:
      record: its label is an `EncodedMask`.
      classes: number of classes.

    Returns:
      The image in RGB, and its mask, whose grey values are classes and IGNORED.

    Raises:
      UnreadableImageError: a file is damaged.
      InputError: the mask has another size, colours, or a class beyond the count.
    """
    image = EncodedImage(record.encoded, record.name).decode()
    mask = decode_mask(record.label)
    name = record.label.name
    if mask.shape != (image.height, image.width):
        raise InputError(
            f"{name} has {mask.shape[1]}×{mask.shape[0]} pixels, its image {record.name} has "
            f"{image.width}×{image.height}: they must be equal"
        )
    beyond = mask[(mask >= classes) & (mask != IGNORED)]
    if beyond.size:
        raise InputError(
            f"{name} has pixels of class {beyond.max()}; accepted: 0 to {classes - 1}, and "
            f"{IGNORED} for those without a class"
        )
    return image, Image.fromarray(mask)


def decode_mask(mask: EncodedMask) -> np.ndarray:
    """Decode a grey image, or the places in a palette, to classes: uint8 [h, w].

    Raises:
      UnreadableImageError: the file is damaged.
      InputError: it has colours, values above 255, or one that its label map does not name.
    """
    with read_errors(mask.name), Image.open(io.BytesIO(mask.encoded)) as file:
        mode, values = file.mode, np.asarray(file)
    if values.ndim != 2:
        raise InputError(
            f"{mask.name} has colours (mode {mode}); accepted: one number for each pixel, its "
            "class, as a grey image or with a palette"
        )
    if values.max(initial=0) > IGNORED or values.min(initial=0) < 0:
        raise InputError(f"{mask.name} has the value {values.max()}; accepted: 0 to {IGNORED}")
    classes = values.astype(np.uint8)
    if mask.table is not None:
        values, classes = classes, np.frombuffer(mask.table, np.uint8)[classes]
        if (strange := values[classes == UNNAMED]).size:
            raise InputError(
                f"{mask.name} has the value {strange[0]}, which --label-map does not name: add "
                f"{strange[0]}=NAME, or {strange[0]}=ignore for pixels without a class"
            )
    return classes


def number_classes(source: Source) -> tuple[str, ...]:
    """Name the classes by their numbers, 0 to the largest in any mask; reads all of them."""
    largest = 0
    for index in range(len(source)):
        mask = decode_mask(source[index].label)
        largest = max(largest, int(mask.max(initial=0, where=mask != IGNORED)))
    return tuple(map(str, range(largest + 1)))
