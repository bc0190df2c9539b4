"""Random changes of colour."""

import dataclasses

import numpy as np
from PIL import Image

from train.data.operations import apply_operation, shift_hue

_NAMES = ("Brightness", "Contrast", "Color")


@dataclasses.dataclass(frozen=True)
class ColorJitter:
    """Brightness, contrast, saturation and hue at random, in random order (torchvision's).

    Attributes:
      brightness, contrast, saturation: most change, as a share; they are at least 0 afterwards.
      hue: most turn, as a share of the colour circle, 0 to 0.5.
    """

    brightness: float
    contrast: float
    saturation: float
    hue: float = 0.0

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Change the colours of an RGB image."""
        for name, change in self.draw(rng):
            if name == "Hue":
                image = shift_hue(image, change)
            else:
                image = apply_operation(image, name, change)
        return image

    def draw(self, rng: np.random.Generator) -> list[tuple[str, float]]:
        """Draw the changes, and their order."""
        most = (self.brightness, self.contrast, self.saturation)
        changes = [
            (name, rng.uniform(-min(1, limit), limit))
            for name, limit in zip(_NAMES, most, strict=True)
            if limit
        ]
        if self.hue:
            changes.append(("Hue", rng.uniform(-self.hue, self.hue)))
        return [changes[place] for place in rng.permutation(len(changes))]
