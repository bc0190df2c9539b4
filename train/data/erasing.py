"""Random erasing: a box of the image is painted over (arXiv:1708.04896)."""

import dataclasses

import numpy as np
from PIL import Image

from train.data.augment import Box, place_box, random_sides

_SCALE = (0.02, 0.33)
_RATIO = (1 / 3.3, 1 / 0.3)
"""Width by height; torchvision states height by width, 0.3 to 3.3."""

_TRIES = 10


@dataclasses.dataclass(frozen=True)
class RandomErasing:
    """Paint a box of 2 to 33 percent of the area (torchvision's).

    Attributes:
      probability: share of the images that are changed.
      color: RGB to paint. torchvision erases normalized images with 0, which is the mean colour.
    """

    probability: float
    color: tuple[int, int, int]

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Paint a box with the given probability."""
        box = self.draw(*image.size, rng)
        if box is None:
            return image
        image = image.copy()
        image.paste(self.color, box)
        return image

    def draw(self, width: int, height: int, rng: np.random.Generator) -> Box | None:
        """Draw (left, top, right, bottom), smaller than the image in both directions, or None."""
        if rng.random() >= self.probability:
            return None
        for _ in range(_TRIES):
            w, h = random_sides(width * height, _SCALE, _RATIO, rng)
            if w < width and h < height:
                return place_box(w, h, width, height, rng)
        return None
