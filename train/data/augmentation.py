"""Augmentation of a run: the crop of its data set, then the changes that its settings ask for."""

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from PIL import Image

from flaxmobile.errors import InputError
from flaxmobile.preprocessing import Preprocessing
from train.data.augment import augment_photograph
from train.data.decoding import EncodedImage
from train.data.erasing import RandomErasing
from train.data.jitter import ColorJitter
from train.data.policies import (
    AugMix,
    AutoAugment,
    AutoAugmentV0,
    Policy,
    RandAugment,
    TrivialAugmentWide,
)
from train.data.records import Augment, Dataset
from train.data.settings import DataSettings

Change = Callable[[Image.Image, np.random.Generator], Image.Image]
"""(RGB image, generator) -> a random variant of the same size."""


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """A crop, and changes in order. All random numbers come from one generator."""

    crop: Augment
    changes: tuple[Change, ...]

    def __call__(
        self, image: EncodedImage, size: int, rng: np.random.Generator, interpolation: str
    ) -> Image.Image:
        """Return a random variant of an image, size × size pixels."""
        variant = self.crop(image, size, rng, interpolation)
        for change in self.changes:
            variant = change(variant, rng)
        return variant


def make_augmentation(
    settings: DataSettings, dataset: Dataset, preprocessing: Preprocessing
) -> Augment:
    """Build the augmentation: crop, flip, policy, colours, erasing.

    Args:
      settings: what is wanted.
      dataset: gives the crop.
      preprocessing: gives the interpolation and the mean colour.

    Raises:
      InputError: settings that do not apply to the data set.
    """
    crop = dataset.augment
    assert crop is not None, "data of another task"
    if crop is augment_photograph:
        crop = partial(augment_photograph, min_crop=settings.min_crop, flip=settings.flip)
    elif settings.min_crop != DataSettings.min_crop or not settings.flip:
        raise InputError(
            f"--min-crop and --no-flip do not apply to {dataset.name}, whose images are neither "
            "cropped nor flipped: leave them out"
        )
    return Augmentation(crop, tuple(_changes(settings, preprocessing)))


def color_changes(settings: DataSettings) -> tuple[Change, ...]:
    """Return the changes that leave every pixel where it is."""
    if not settings.color_jitter:
        return ()
    first, *others = settings.color_jitter
    return (ColorJitter(first, *(others or (first, first))),)


def _changes(settings: DataSettings, preprocessing: Preprocessing) -> Iterator[Change]:
    if settings.auto_augment:
        yield _policy(settings, preprocessing.interpolation)
    yield from color_changes(settings)
    if settings.random_erasing:
        yield RandomErasing(settings.random_erasing, preprocessing.mean_color)


def _policy(settings: DataSettings, interpolation: str) -> Policy:
    strength = settings.auto_augment_magnitude
    match settings.auto_augment:
        case "randaugment":
            given = {} if strength is None else {"magnitude": strength}
            return RandAugment(interpolation, **given)
        case "augmix":
            given = {} if strength is None else {"severity": strength}
            return AugMix(interpolation, **given)
        case "trivial":
            return TrivialAugmentWide(interpolation)
        case "v0":
            return AutoAugmentV0("nearest", fill=128)
        case _:
            return AutoAugment(interpolation)
