"""Augmentation policies: which operations an image undergoes, and how strongly."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from PIL import Image

from flaxmobile.preprocessing import INTERPOLATIONS
from train.data.operations import apply_operation
from train.data.policy_tables import IMAGENET, V0, Table

Size = tuple[int, int]
"""Width and height in pixels."""

Plan = list[tuple[str, float]]
"""(operation, magnitude) in order."""


class Range(NamedTuple):
    """Magnitudes of an operation.

    Attributes:
      at: (level from 0 to 1, size of the image) -> magnitude.
      signed: whether half of the magnitudes are negated.
    """

    at: Callable[[float, Size], float]
    signed: bool = False


Space = Mapping[str, Range]


def _space(
    *,
    shear: float = 0.3,
    translate: Callable[[int], float] = lambda side: side * 150 / 331,
    rotate: float = 30,
    enhance: float = 0.9,
    bits: Size = (8, 4),
) -> Space:
    """Build the ranges that papers share, from the largest magnitudes.

    Args:
      shear: slope.
      translate: side of the image -> pixels.
      rotate: degrees.
      enhance: change of brightness, color, contrast and sharpness.
      bits: kept at level 0 by posterizing, and how many fewer at level 1.
    """
    most = {"ShearX": shear, "ShearY": shear, "Rotate": rotate}
    most |= dict.fromkeys(("Brightness", "Color", "Contrast", "Sharpness"), enhance)

    def linear(most: float) -> Range:
        return Range(lambda level, size: level * most, signed=True)

    return {
        **{name: linear(value) for name, value in most.items()},
        "TranslateX": Range(lambda level, size: level * translate(size[0]), signed=True),
        "TranslateY": Range(lambda level, size: level * translate(size[1]), signed=True),
        "Posterize": Range(lambda level, size: bits[0] - round(level * bits[1])),
        "Solarize": Range(lambda level, size: 255 * (1 - level)),
        **dict.fromkeys(("AutoContrast", "Equalize"), Range(lambda level, size: 0)),
    }


_NOTHING = {"Identity": Range(lambda level, size: 0)}
_INVERT = {"Invert": Range(lambda level, size: 0)}

_AUTO = {**_space(), **_INVERT}
_RANDOM = {**_space(), **_NOTHING}
_WIDE = {
    **_space(shear=0.99, translate=lambda side: 32, rotate=135, enhance=0.99, bits=(8, 6)),
    **_NOTHING,
}
_MIXED = _space(translate=lambda side: side / 3, bits=(4, 4))
_GARDEN = {
    **_space(translate=lambda side: 250),
    **_INVERT,
    "Color": Range(lambda level, size: 1.8 * level - 0.9),
    "Posterize": Range(lambda level, size: int(4 * level)),
    "Solarize": Range(lambda level, size: int(256 * level)),
    "SolarizeAdd": Range(lambda level, size: int(110 * level)),
}
"""Model garden, `official/vision/ops/augment.py`: its strongest solarizing leaves the image as it
is, and translations are in pixels, whatever the size of the image."""


def _draw(space: Space, name: str, level: float, size: Size, rng: np.random.Generator) -> float:
    """Draw the magnitude of an operation: its sign, where it has one."""
    magnitude, signed = space[name].at(level, size), space[name].signed
    return -magnitude if signed and rng.random() < 0.5 else magnitude


@dataclasses.dataclass(frozen=True)
class Policy:
    """Operations at random, on RGB images of any size.

    Attributes:
      interpolation: of shears, translations and rotations.
      fill: grey value of what they uncover.
    """

    interpolation: str = "bilinear"
    fill: int = 0

    def draw(self, size: Size, rng: np.random.Generator) -> Plan:
        """Draw the operations for an image."""
        raise NotImplementedError

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Apply what `draw` gives."""
        return self.apply(image, self.draw(image.size, rng))

    def apply(self, image: Image.Image, plan: Plan) -> Image.Image:
        """Apply operations in order."""
        for name, magnitude in plan:
            resampling = INTERPOLATIONS[self.interpolation]
            image = apply_operation(image, name, magnitude, resampling, self.fill)
        return image


@dataclasses.dataclass(frozen=True)
class RandAugment(Policy):
    """Some operations, all of one level (arXiv:1909.13719, torchvision's ranges).

    Attributes:
      magnitude: 0 to 30.
      count: number of operations.
    """

    magnitude: int = 9
    count: int = 2

    def draw(self, size: Size, rng: np.random.Generator) -> Plan:
        """Draw `count` operations, each with the same chance."""
        names = list(_RANDOM)
        chosen = [names[i] for i in rng.integers(len(names), size=self.count)]
        return [(name, _draw(_RANDOM, name, self.magnitude / 30, size, rng)) for name in chosen]


@dataclasses.dataclass(frozen=True)
class TrivialAugmentWide(Policy):
    """One operation of any of 31 levels (arXiv:2103.10158)."""

    def draw(self, size: Size, rng: np.random.Generator) -> Plan:
        """Draw an operation and its level, each with the same chance."""
        name = list(_WIDE)[rng.integers(len(_WIDE))]
        return [(name, _draw(_WIDE, name, rng.integers(31) / 30, size, rng))]


@dataclasses.dataclass(frozen=True)
class AutoAugment(Policy):
    """The policy that was learnt on ImageNet (arXiv:1805.09501, table 9)."""

    def draw(self, size: Size, rng: np.random.Generator) -> Plan:
        """Draw a row of the table, and each of its operations with its probability."""
        return _draw_row(IMAGENET, 9, _AUTO, size, rng)


@dataclasses.dataclass(frozen=True)
class AutoAugmentV0(Policy):
    """The policy "v0" of TensorFlow's model garden, with its ranges."""

    def draw(self, size: Size, rng: np.random.Generator) -> Plan:
        """Draw a row of the table, and each of its operations with its probability."""
        return _draw_row(V0, 10, _GARDEN, size, rng)


def _draw_row(table: Table, top: int, space: Space, size: Size, rng: np.random.Generator) -> Plan:
    row = table[rng.integers(len(table))]
    used = [(name, level) for name, probability, level in row if rng.random() < probability]
    return [(name, _draw(space, name, level / top, size, rng)) for name, level in used]


@dataclasses.dataclass(frozen=True)
class AugMix(Policy):
    """An average of the image and of chains of operations (arXiv:1912.02781).

    Attributes:
      severity: 1 to 10; the levels are 0 to severity - 1, of 9.
      width: number of chains, each of 1 to 3 operations.
    """

    severity: int = 3
    width: int = 3

    def draw(self, size: Size, rng: np.random.Generator) -> Plan:
        """Draw a chain."""
        names = [list(_MIXED)[i] for i in rng.integers(len(_MIXED), size=rng.integers(1, 4))]
        return [
            (name, _draw(_MIXED, name, rng.integers(self.severity) / 9, size, rng))
            for name in names
        ]

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> Image.Image:
        """Mix the image with its chains, by weights from Dirichlet's distribution.

        Pixels are rounded, where torchvision cuts them off.
        """
        share = rng.dirichlet((1, 1))
        weights = [share[0], *share[1] * rng.dirichlet((1,) * self.width)]
        chains = [self.apply(image, self.draw(image.size, rng)) for _ in range(self.width)]
        mixed = sum(
            weight * np.asarray(part, np.float32)
            for weight, part in zip(weights, (image, *chains), strict=True)
        )
        return Image.fromarray(np.asarray(mixed).round().astype(np.uint8))
