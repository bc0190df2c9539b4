"""Operations on images that augmentation policies draw from, in PIL."""

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

Affine = tuple[float, float, float, float, float, float]

_AFFINE: dict[str, Callable[[float], Affine]] = {
    "ShearX": lambda slope: (1, slope, 0, 0, 1, 0),
    "ShearY": lambda slope: (1, 0, 0, slope, 1, 0),
    "TranslateX": lambda pixels: (1, 0, -int(pixels), 0, 1, 0),
    "TranslateY": lambda pixels: (1, 0, 0, 0, 1, -int(pixels)),
}
"""Name -> map from a point of the result to one of the image."""

_ENHANCE = {
    "Brightness": ImageEnhance.Brightness,
    "Color": ImageEnhance.Color,
    "Contrast": ImageEnhance.Contrast,
    "Sharpness": ImageEnhance.Sharpness,
}

_PIXELS: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "Identity": lambda image, _: image,
    "AutoContrast": lambda image, _: ImageOps.autocontrast(image),
    "Equalize": lambda image, _: ImageOps.equalize(image),
    "Invert": lambda image, _: ImageOps.invert(image),
    "Posterize": lambda image, bits: image.point(
        [v & (0xFF00 >> int(bits)) for v in range(256)] * 3
    ),
    "Solarize": lambda image, threshold: ImageOps.solarize(image, math.ceil(threshold)),
    "SolarizeAdd": lambda image, addition: image.point([_add(v, addition) for v in range(256)] * 3),
}

OPERATIONS = (*_AFFINE, "Rotate", *_ENHANCE, *_PIXELS)


def apply_operation(
    image: Image.Image,
    name: str,
    magnitude: float,
    resampling: Image.Resampling = Image.Resampling.NEAREST,
    fill: int = 0,
) -> Image.Image:
    """Apply one operation; sizes stay as they are.

    Args:
      image: RGB.
      name: one of OPERATIONS.
      magnitude: slope of a shear, pixels of a translation to the right or down, degrees of a
        counterclockwise rotation; 0 leaves brightness, color, contrast and sharpness as they are,
        -1 removes them; bits that a posterized image keeps; value from which a solarized one is
        inverted; what is added to the dark half (SolarizeAdd). The others take none.
      resampling: of shears, translations and rotations.
      fill: grey value of what they uncover.
    """
    if name in _ENHANCE:
        return _ENHANCE[name](image).enhance(1 + magnitude)
    if name in _PIXELS:
        return _PIXELS[name](image, magnitude)
    if name == "Rotate":
        return image.rotate(magnitude, resampling, fillcolor=(fill,) * 3)
    coefficients = _AFFINE[name](magnitude)
    affine = Image.Transform.AFFINE
    return image.transform(image.size, affine, coefficients, resampling, fillcolor=(fill,) * 3)


def shift_hue(image: Image.Image, turn: float) -> Image.Image:
    """Turn the hue of an RGB image by a part of the colour circle, -0.5 to 0.5."""
    hue, saturation, value = image.convert("HSV").split()
    turned = np.asarray(hue) + np.uint8(int(turn * 255) % 256)
    return Image.merge("HSV", (Image.fromarray(turned), saturation, value)).convert("RGB")


def _add(value: int, addition: float) -> int:
    """Brighten the dark half of the values."""
    return min(255, value + int(addition)) if value < 128 else value
