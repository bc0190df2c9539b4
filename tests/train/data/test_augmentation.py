"""What the flags make of the training images."""

import pickle

import numpy as np
import pytest
from PIL import Image

from flaxmobile.errors import InputError
from flaxmobile.preprocessing import Preprocessing
from tests.train.data.batches import as_file
from train.data import open_dataset
from train.data.augment import augment_photograph, random_box
from train.data.augmentation import make_augmentation
from train.data.erasing import RandomErasing
from train.data.jitter import ColorJitter
from train.data.policies import AugMix, AutoAugment, AutoAugmentV0, RandAugment, TrivialAugmentWide
from train.flags import read_config

PREPROCESSING = Preprocessing(24, mean=(0.5, 0.25, 1.0), interpolation="bicubic")


@pytest.fixture(scope="module")
def image():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8))


def augmentation(dataset, *flags, preprocessing=PREPROCESSING):
    return make_augmentation(read_config(flags), dataset, preprocessing)


def pixels(augment, image, seed=0):
    return np.asarray(augment(as_file(image), 24, np.random.default_rng(seed), "bilinear"))


def test_without_flags_photographs_are_cropped_and_flipped_as_before(flowers, image):
    plain = augmentation(flowers)
    for seed in range(4):
        np.testing.assert_array_equal(
            pixels(plain, image, seed), pixels(augment_photograph, image, seed)
        )


@pytest.mark.parametrize(
    ("flags", "changes"),
    [
        (["--auto-augment", "randaugment"], (RandAugment("bicubic"),)),
        (
            ["--auto-augment", "randaugment", "--auto-augment-magnitude", "0"],
            (RandAugment("bicubic", magnitude=0),),
        ),
        (["--auto-augment", "autoaugment"], (AutoAugment("bicubic"),)),
        (["--auto-augment", "v0"], (AutoAugmentV0("nearest", 128),)),
        (["--auto-augment", "trivial"], (TrivialAugmentWide("bicubic"),)),
        (
            ["--auto-augment", "augmix", "--auto-augment-magnitude", "7"],
            (AugMix("bicubic", severity=7),),
        ),
        (["--color-jitter", "0.4"], (ColorJitter(0.4, 0.4, 0.4),)),
        (["--color-jitter", "1", "2", "3", "0.5"], (ColorJitter(1, 2, 3, 0.5),)),
        (
            ["--random-erasing", "0.1", "--color-jitter", "0.4", "--auto-augment", "trivial"],
            (
                TrivialAugmentWide("bicubic"),
                ColorJitter(0.4, 0.4, 0.4),
                RandomErasing(0.1, (128, 64, 255)),
            ),
        ),
    ],
)
def test_flags_add_changes_in_order(flowers, image, flags, changes):
    augment = augmentation(flowers, *flags)
    assert augment.changes == changes
    again = pickle.loads(pickle.dumps(augment))
    np.testing.assert_array_equal(pixels(augment, image), pixels(again, image))
    rng = np.random.default_rng(0)
    expected = augment_photograph(as_file(image), 24, rng, "bilinear")
    for change in changes:
        expected = change(expected, rng)
    np.testing.assert_array_equal(pixels(augment, image), expected)


def test_erasing_paints_the_mean_of_the_image_and_not_of_the_networks_channels(flowers):
    preprocessing = Preprocessing(24, mean=(0.1, 0.2, 0.4), channel_order="BGR")
    augment = augmentation(flowers, "--random-erasing", "1", preprocessing=preprocessing)
    assert augment.changes[0].color == (102, 51, 26)


def test_flips_can_be_switched_off_and_crops_bounded(flowers):
    left = Image.new("RGB", (60, 60))
    left.paste((255, 255, 255), (0, 0, 30, 60))
    augment = augmentation(flowers, "--no-flip", "--min-crop", "0.9")
    whole = augmentation(flowers, "--min-crop", "0.9")
    sides = {
        name: {pixels(a, left, seed)[:, 0].mean() > 128 for seed in range(20)}
        for name, a in {"no flip": augment, "flip": whole}.items()
    }
    assert sides == {"no flip": {True}, "flip": {True, False}}
    rng = np.random.default_rng(0)
    areas = [(r - x) * (b - y) for x, y, r, b in (random_box(90, 90, rng, 0.9) for _ in range(99))]
    assert min(areas) > 0.85 * 90 * 90  # rounded, and square where no box fits


def test_what_does_not_apply_to_digits_is_refused(tmp_path):
    digits = open_dataset("digits", str(tmp_path))
    for flags in (["--no-flip"], ["--min-crop", "0.5"]):
        with pytest.raises(InputError, match="do not apply to digits"):
            augmentation(digits, *flags)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--min-crop", "0"], "--min-crop is 0.0; accepted: above 0, up to 1"),
        (["--random-erasing", "2"], "--random-erasing is 2.0; accepted: 0 to 1"),
        (["--repeated-augmentation", "0"], "accepted: 1 and more"),
        (["--color-jitter", "0.1", "0.2"], "accepted: 1, 3 or 4 numbers"),
        (["--color-jitter", "0.1", "0.2", "0.3", "0.6"], "the hue's at most 0.5"),
        (["--auto-augment-magnitude", "5"], "accepted: 0 to 30 with --auto-augment randaugment"),
        (["--auto-augment", "augmix", "--auto-augment-magnitude", "11"], "1 to 10 with augmix"),
        (["--model", "inception_v3", "--train-size", "64"], "--train-size is 64; .* needs 75"),
    ],
)
def test_settings_that_cannot_be_are_refused(flags, said):
    with pytest.raises(InputError, match=said):
        read_config(flags)
