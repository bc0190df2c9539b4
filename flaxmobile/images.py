"""Image files of every kind, as upright RGB images."""

import contextlib
import functools
import importlib
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from flaxmobile.errors import InputError

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> turn. `ImageOps.exif_transpose` fails if other EXIF entries are damaged."""


class UnreadableImageError(InputError):
    """A file that is not an image, is truncated, or cannot be opened; the message names it."""


def open_image(path: str | Path) -> Image.Image:
    """Read an image file of any mode as RGB, turned upright by its EXIF orientation.

    Transparent pixels are blended with white.

    Raises:
      UnreadableImageError: no such file, not an image, or a truncated one; names the file.
    """
    try:
        encoded = Path(path).read_bytes()
    except OSError as error:
        raise UnreadableImageError(f"{path} cannot be read: {error.strerror}") from None
    return read_image(encoded, str(path))


def read_image(encoded: bytes, name: str) -> Image.Image:
    """Decode the bytes of an image file as `open_image` does; `name` is for the error."""
    register_heif()
    with read_errors(name), Image.open(io.BytesIO(encoded)) as image:
        return to_rgb(image)


@contextlib.contextmanager
def read_errors(name: str) -> Iterator[None]:
    """Turn what PIL raises for an image file into an UnreadableImageError that names the file."""
    try:
        yield
    except UnidentifiedImageError:
        raise UnreadableImageError(
            f"{name} is not an image that can be read (JPEG, PNG, …)"
        ) from None
    except Exception as error:  # damaged bytes raise anything, from struct.error to RuntimeError
        raise UnreadableImageError(f"{name} cannot be read as an image: {error}") from None


@functools.cache
def register_heif() -> bool:
    """Let PIL read HEIC files if pillow-heif is installed, and tell whether it is."""
    try:
        importlib.import_module("pillow_heif").register_heif_opener()
    except ImportError:
        return False
    return True


def orientation(image: Image.Image) -> int:
    """EXIF orientation of an image: 1 is upright, 5 to 8 swap width and height."""
    found: int = image.getexif().get(ExifTags.Base.Orientation, 1)
    return found


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) of an image as a viewer turns it, without decoding."""
    width, height = image.size
    return (height, width) if orientation(image) in range(5, 9) else (width, height)


def to_rgb(image: Image.Image) -> Image.Image:
    """Turn upright and convert any mode (grey, palette, 16 bit, alpha, CMYK) to RGB."""
    image.load()  # which turns a TIFF
    turn = _UPRIGHT.get(orientation(image))
    if turn is not None:
        image = image.transpose(turn)
    if image.mode.startswith("I") or image.mode == "F":  # PIL clips these instead of scaling
        values = np.asarray(image, np.float64)
        wide = image.mode.startswith("I;16") or values.max(initial=0) > 255
        top = 65535.0 if wide else 255.0
        image = Image.fromarray((values.clip(0, top) * (255 / top)).round().astype(np.uint8))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")
