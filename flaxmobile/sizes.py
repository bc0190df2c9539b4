"""Sizes of images: one side for squares, or height and width."""

import operator
from typing import Any

from flaxmobile.errors import InputError

ImageSize = int | tuple[int, int]
"""Side of a square in pixels, or (height, width)."""


def as_height_and_width(size: Any, name: str = "image_size") -> tuple[int, int]:
    """Return the height and width of an image in pixels.

    Args:
      size: a whole number (NumPy's too) for a square, or a pair of them.
      name: of the option, for the error.

    Raises:
      InputError: anything else, or less than 1.
    """
    pair = size if isinstance(size, tuple | list) else (size, size)
    try:
        height, width = map(operator.index, pair)
    except (TypeError, ValueError):
        height, width = 0, 0
    if min(height, width) < 1:
        raise InputError(f"{name} is {size}; accepted: the side in pixels, or (height, width)")
    return height, width


def as_image_size(size: Any) -> ImageSize:
    """Return a size in plain numbers: one for a square, otherwise (height, width)."""
    height, width = as_height_and_width(size)
    return height if height == width else (height, width)


def size_text(size: ImageSize) -> str:
    """Write a size as 224×192."""
    return "×".join(map(str, as_height_and_width(size)))
