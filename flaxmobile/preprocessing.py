"""Preprocessing of images for a network; its settings are stored with the weights."""

import dataclasses
import math
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
from PIL import Image

from flaxmobile.errors import InputError, check_value, unknown
from flaxmobile.imagenet import IMAGENET_MEAN, IMAGENET_STD
from flaxmobile.sizes import ImageSize, as_height_and_width, as_image_size, size_text
from flaxmobile.trees import as_tuples

if TYPE_CHECKING:
    from jax import Array

Pixels = TypeVar("Pixels", np.ndarray, "Array")

INTERPOLATIONS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "nearest": Image.Resampling.NEAREST,
}

CHANNEL_ORDERS = {"RGB": 3, "BGR": 3, "grey": 1}
"""Order of a network's channels -> their number."""

_LUMA = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in grey (ITU-R BT.601)."""

_LONG = 64
"""Longer sides than this, in crops, are not scaled as a whole."""


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Evaluation preprocessing: resize the shorter side, crop the centre, normalize.

    Follows torchvision's `Resize` and `CenterCrop` on PIL images pixel by pixel.

    Attributes:
      image_size: side of the square crop in pixels, or its (height, width).
      resize_size: length of the shorter side before the crop; by default the crop's longer side
        / 0.875, as 224 out of 256.
      mean, std: of pixels in 0..1, per channel in the network's order; 0 and 1 / 255 leave pixels
        in 0..255.
      interpolation: "bilinear", "bicubic" or "nearest", antialiased as PIL does it.
      channel_order: "RGB", "BGR" for networks whose first channel is blue, or "grey" for those that
        have one; mean and std have one number then.
    """

    image_size: ImageSize = 224
    resize_size: int | None = None
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    interpolation: str = "bilinear"
    channel_order: str = "RGB"

    def __post_init__(self) -> None:
        if self.interpolation not in INTERPOLATIONS:
            raise unknown("interpolation", self.interpolation, INTERPOLATIONS)
        if self.channel_order not in CHANNEL_ORDERS:
            raise unknown("channel_order", self.channel_order, CHANNEL_ORDERS)
        object.__setattr__(self, "image_size", as_image_size(self.image_size))
        if self.resize_size is not None:
            shorter, longer = as_height_and_width(self.resize_size, "resize_size")
            check_value("resize_size", self.resize_size, shorter == longer, "the shorter side")
            object.__setattr__(self, "resize_size", shorter)
        channels = CHANNEL_ORDERS[self.channel_order]
        numbers = len(self.mean) == len(self.std) == channels and all(
            isinstance(number, int | float) and math.isfinite(number)
            for number in (*self.mean, *self.std)
        )
        if not numbers or min(self.std) <= 0:
            raise InputError(
                f"mean is {self.mean} and std {self.std}; accepted for {self.channel_order}: a "
                f"number per channel ({channels}), std above 0"
            )

    @property
    def height_and_width(self) -> tuple[int, int]:
        """Height and width of the crop in pixels."""
        return as_height_and_width(self.image_size)

    @property
    def mean_color(self) -> tuple[int, int, int]:
        """Red, green and blue of the mean, 0 to 255."""
        levels = [math.floor(255 * min(1, max(0, value)) + 0.5) for value in self.mean]
        red, green, blue = levels[::-1] if self.channel_order == "BGR" else (levels * 3)[:3]
        return red, green, blue

    def with_side(self, size: int) -> Self:
        """Return the preprocessing with another square crop, resized in the same proportion."""
        resize = self.resize_size and round(size * self.resize_size / self.side)
        return dataclasses.replace(self, image_size=size, resize_size=resize)

    def for_channels(self, channels: int) -> Self:
        """Return the preprocessing for a network with a number of channels.

        With one, images are grey, and mean and std the averages of the colours'.
        """
        if channels != 1 or self.channel_order == "grey":
            return self
        mean, std = ((sum(numbers) / 3,) for numbers in (self.mean, self.std))
        return dataclasses.replace(self, mean=mean, std=std, channel_order="grey")

    @property
    def side(self) -> int:
        """Side of the square crop, for what takes squares only.

        Raises:
          InputError: height and width differ.
        """
        height, width = self.height_and_width
        check_value("image_size", self.image_size, height == width, "here, a square")
        return height

    @property
    def shorter_side(self) -> int:
        """Length of the shorter side before the crop, in pixels."""
        return self.resize_size or round(max(self.height_and_width) / 0.875)

    def crop(self, image: Image.Image) -> Image.Image:
        """Resize and centre-crop to image_size."""
        size = self.height_and_width
        resized = resize_shorter(image, self.shorter_side, self.interpolation, max(size))
        return center_crop(resized, size)

    def normalize(self, pixels: Pixels) -> Pixels:
        """Map RGB pixels [..., 3] in 0..255 to float32 [..., c] in the network's order and scale.

        Accepts NumPy and JAX arrays. With the latter, pixels can be moved to the device as uint8
        first.
        """
        shape = (1,) * (pixels.ndim - 1) + (-1,)
        mean, std, luma = (
            np.asarray(x, np.float32).reshape(shape) for x in (self.mean, self.std, _LUMA)
        )
        if self.channel_order == "BGR":
            pixels = pixels[..., ::-1]
        values = pixels.astype(np.float32) / np.float32(255)
        if self.channel_order == "grey":
            values = (values * luma).sum(-1, keepdims=True)
        return (values - mean) / std

    def __call__(self, image: Image.Image) -> np.ndarray:
        """Turn an RGB image into float32 [h, w, c]."""
        return self.normalize(np.asarray(self.crop(image)))

    def describe(self) -> str:
        """Say in one line what is done to an image, the range of the pixels included."""
        size, shorter = self.height_and_width, self.shorter_side
        order = "" if self.channel_order == "RGB" else f", {self.channel_order}"
        return (
            f"shorter side to {shorter} ({self.interpolation}), centre {size_text(size)}, "
            f"pixels {self._range()}{order}"
        )

    def _range(self) -> str:
        low = {round((0 - m) / s, 3) for m, s in zip(self.mean, self.std, strict=True)}
        high = {round((1 - m) / s, 3) for m, s in zip(self.mean, self.std, strict=True)}
        if len(low) == len(high) == 1:
            return f"{low.pop() + 0:g}..{high.pop():g}"
        mean, std = (" ".join(f"{x:g}" for x in numbers) for numbers in (self.mean, self.std))
        return f"0..1 less the mean {mean}, divided by {std}"

    def to_json(self) -> dict[str, Any]:
        """Plain values for model.json."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Read what `to_json` wrote.

        Raises:
          InputError: an unknown field, or a wrong value.
        """
        fields = {field.name for field in dataclasses.fields(cls)}
        for name in values:
            if name not in fields:
                raise unknown("preprocessing field", name, sorted(fields))
        try:
            return cls(**{name: as_tuples(value) for name, value in values.items()})
        except TypeError as error:
            raise InputError(f"preprocessing {values} is malformed: {error}") from None


def resize_shorter(
    image: Image.Image, size: int, interpolation: str = "bilinear", crop: int | None = None
) -> Image.Image:
    """Scale so that the shorter side has `size` pixels (torchvision's `Resize(size)`).

    Args:
      image: of any shape.
      size: shorter side of the result in pixels.
      interpolation: a name of INTERPOLATIONS.
      crop: longer side of the centre crop that is taken later. Of a result that is much longer,
        only the middle is computed: 1×30,000 pixels scaled as a whole would take 6 GB.
    """
    width, height = image.size
    short, long = min(width, height), max(width, height)
    other = int(size * long / short)
    new_size = (size, other) if width <= height else (other, size)
    if new_size == image.size:
        return image
    resampling = INTERPOLATIONS[interpolation]
    if crop is None or other <= _LONG * crop:
        return image.resize(new_size, resampling)
    middle = (other - crop) // 2, (other - crop) // 2 + crop
    start, end = (place * long / other for place in middle)
    if width <= height:
        return image.resize((size, crop), resampling, (0, start, width, end))
    return image.resize((crop, size), resampling, (start, 0, end, height))


def center_crop(image: Image.Image, size: ImageSize) -> Image.Image:
    """Cut out the central pixels, a square or (height, width), black where the image is smaller."""
    (height, width), (w, h) = as_height_and_width(size), image.size
    if w < width or h < height:
        # torchvision pads first, the odd pixel at the right and bottom
        left, top = max(0, (width - w) // 2), max(0, (height - h) // 2)
        padded = Image.new(image.mode, (max(width, w), max(height, h)))
        padded.paste(image, (left, top))
        image, (w, h) = padded, padded.size
    left, top = round((w - width) / 2), round((h - height) / 2)
    return image.crop((left, top, left + width, top + height))
