"""Random changes of training images, each drawn from an explicit generator."""

import math

import numpy as np
import PIL
from PIL import Image

from flaxmobile.preprocessing import INTERPOLATIONS
from train.data.decoding import Box, EncodedImage, Place

try:
    import cykooz_resizer
except ImportError:  # has no wheel for Linux on ARM
    cykooz_resizer = None

_KNOWN_PIL = 13
"""Newest major version of PIL that cykooz_resizer is known to work with: it reads its
structures."""


MIN_CROP = 0.08
"""Least share of an image's area that a crop keeps (Inception's)."""

_RATIO = (3 / 4, 4 / 3)
_TRIES = 10


def augment_photograph(
    image: EncodedImage,
    size: int,
    rng: np.random.Generator,
    interpolation: str = "bilinear",
    min_crop: float = MIN_CROP,
    flip: bool = True,
) -> Image.Image:
    """Crop at random, scale to size × size, and mirror half of the time, unless flip is off."""
    crop = random_resized_crop(image, size, rng, interpolation, min_crop)
    return random_horizontal_flip(crop, rng) if flip else crop


def random_resized_crop(
    image: EncodedImage,
    size: int,
    rng: np.random.Generator,
    interpolation: str = "bilinear",
    min_crop: float = MIN_CROP,
) -> Image.Image:
    """Scale a random part of the image to size × size (Inception's crop, as torchvision draws it).

    Args:
      image: of any size.
      size: side of the result in pixels.
      rng: draws the part, see `random_box`.
      interpolation: "bilinear", "bicubic" or "nearest", antialiased as PIL does it. Where
        cykooz_resizer is installed, "bilinear" rounds differently: pixels differ by 1 of 255 at
        most. Except with "nearest", a crop of a JPEG file that is much larger than the result is
        decoded at reduced scale: pixels differ by less than 1 of 255 on average.
      min_crop: least share of the area.
    """
    box = random_box(*image.size, rng, min_crop)
    part, place = image.decode_part(box, None if interpolation == "nearest" else size)
    if interpolation == "bilinear" and _can_vectorize():
        return _resize_vectorized(part, size, place)
    return part.resize((size, size), INTERPOLATIONS[interpolation], place)


def _can_vectorize() -> bool:
    return cykooz_resizer is not None and int(PIL.__version__.partition(".")[0]) <= _KNOWN_PIL


def _resize_vectorized(image: Image.Image, size: int, place: Place) -> Image.Image:
    """Scale with AVX2 or NEON instructions: 0.11 ms for a crop of 380×300 where PIL takes 0.5."""
    left, top, right, bottom = place
    options = cykooz_resizer.ResizeOptions(
        cykooz_resizer.ResizeAlg.convolution(cykooz_resizer.FilterType.bilinear),
        crop_box=cykooz_resizer.CropBox(left, top, right - left, bottom - top),
    )
    resized = Image.new(image.mode, (size, size))
    cykooz_resizer.Resizer().resize_pil(image, resized, options)
    return resized


def random_box(
    width: int, height: int, rng: np.random.Generator, min_crop: float = MIN_CROP
) -> Box:
    """Draw a box of min_crop to all of the area, and a width of 3/4 to 4/3 of its height.

    The distribution is that of torchvision's `RandomResizedCrop`: a box that does not fit into the
    image is drawn again; after 10 such boxes the largest central one of an allowed ratio is taken.

    Returns:
      (left, top, right, bottom) in pixels.
    """
    for _ in range(_TRIES):
        w, h = random_sides(width * height, (min_crop, 1.0), _RATIO, rng)
        if 0 < w <= width and 0 < h <= height:
            return place_box(w, h, width, height, rng)
    w = min(width, round(height * _RATIO[1]))
    h = min(height, round(width / _RATIO[0]))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def random_sides(
    area: int, scale: tuple[float, float], ratio: tuple[float, float], rng: np.random.Generator
) -> tuple[int, int]:
    """Draw width and height of a box.

    Args:
      area: of the image, in pixels.
      scale: least and largest share of the area, uniform.
      ratio: least and largest width by height, uniform in its logarithm.
      rng: draws both.
    """
    box = area * rng.uniform(*scale)
    width_by_height = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
    return round(math.sqrt(box * width_by_height)), round(math.sqrt(box / width_by_height))


def place_box(w: int, h: int, width: int, height: int, rng: np.random.Generator) -> Box:
    """Draw the place of a w×h box in a width×height image: (left, top, right, bottom)."""
    left = int(rng.integers(width - w, endpoint=True))
    top = int(rng.integers(height - h, endpoint=True))
    return left, top, left + w, top + h


def random_horizontal_flip(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Mirror the image with probability 1/2."""
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else image


def augment_digit(
    image: EncodedImage, size: int, rng: np.random.Generator, interpolation: str = "bilinear"
) -> Image.Image:
    """Turn, slant, stretch and shift a digit a little, at size × size; never mirror it.

    Args:
      image: light strokes on black; the border is filled with black.
      size: side of the result in pixels, at least that of the image.
      rng: draws angle (±10 degrees), slant (±10 degrees), width and height (0.85 to 1.1 times,
        each) and shift (±6 percent of the side).
      interpolation: "bilinear", "bicubic" or "nearest", PIL's.
    """
    angle, slant = (math.radians(degrees) for degrees in rng.uniform(-10, 10, 2))
    scale_x, scale_y = (math.exp(log) for log in rng.uniform(math.log(0.85), math.log(1.1), 2))
    right, down = (size * share for share in rng.uniform(-0.06, 0.06, 2))
    digit = image.decode()
    scale_x, scale_y = scale_x * size / digit.width, scale_y * size / digit.height
    # PIL takes the inverse map, from a point of the result to one of the image: the inverse of
    # stretch, slant, rotation and shift, about the centres.
    cos, sin, tan = math.cos(angle), math.sin(angle), math.tan(slant)
    a, b = (cos + tan * sin) / scale_x, (sin - tan * cos) / scale_x
    d, e = -sin / scale_y, cos / scale_y
    x, y = size / 2 + right, size / 2 + down
    coefficients = (a, b, digit.width / 2 - a * x - b * y, d, e, digit.height / 2 - d * x - e * y)
    resampling = INTERPOLATIONS[interpolation]
    return digit.transform((size, size), Image.Transform.AFFINE, coefficients, resampling)
