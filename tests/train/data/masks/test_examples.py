"""Image and mask change together; the numbers are torchvision's where it has any."""

import io

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import Resize

from flaxmobile import Preprocessing
from train.data.masks.examples import AugmentedMasks, PreparedMasks, canvas_of
from train.data.masks.mask import IGNORED, EncodedMask
from train.data.records import Record

MEAN = (0.2, 0.4, 0.6)
PREPROCESSING = Preprocessing(32, 40, mean=MEAN)


def encoded(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


@pytest.fixture
def record():
    """Four quarters of classes 0 to 3, whose red is 60 times the class."""
    mask = np.zeros((60, 90), np.uint8)
    mask[:30, 45:], mask[30:, :45], mask[30:, 45:] = 1, 2, 3
    image = np.stack([60 * mask, 0 * mask, 0 * mask], -1)
    return Record(encoded(image), EncodedMask(encoded(mask), "mask"), "image")


def known(example):
    """Red and class of the pixels that have a class."""
    inside = example.label != IGNORED
    return example.image[..., 0][inside].astype(int), example.label[inside].astype(int)


def test_training_changes_image_and_mask_alike(record):
    reader = AugmentedMasks(PREPROCESSING, 4, (0.5, 2.0), flip=True)
    shown, padded = set(), 0
    for seed in range(40):
        example = reader(record, np.random.default_rng(seed))
        assert example.image.shape == (32, 32, 3)
        assert (example.label.shape, example.label.dtype) == ((32, 32), np.uint8)
        red, classes = known(example)
        assert np.mean(np.abs(red - 60 * classes) < 20) > 0.85  # edges are interpolated
        outside = example.label == IGNORED
        np.testing.assert_array_equal(
            example.image[outside], np.tile([51, 102, 153], (outside.sum(), 1))
        )
        padded += outside.any()
        columns = [np.flatnonzero((example.label % 2 == side).any(0)) for side in (0, 1)]
        if all(map(len, columns)):
            shown.add(bool(columns[0].mean() < columns[1].mean()))
    assert shown == {True, False}  # mirrored and not
    assert 0 < padded < 40  # small scales leave a border


def test_without_flips_and_scales_the_crop_is_a_part_of_the_resized_image(record):
    reader = AugmentedMasks(PREPROCESSING, 4, (1.0, 1.0), flip=False)
    example = reader(record, np.random.default_rng(0))
    with Image.open(io.BytesIO(record.encoded)) as image:
        whole = np.asarray(Resize(40)(image)).astype(int)
    height, width = whole.shape[:2]
    parts = [
        np.abs(whole[y : y + 32, x : x + 32] - example.image).max()
        for y in range(height - 31)
        for x in range(width - 31)
    ]
    assert min(parts) <= 1


def test_evaluation_resizes_as_torchvision_and_cuts_nothing_off(record):
    canvas = canvas_of([(90, 60), (60, 90)], PREPROCESSING)
    assert canvas == (60, 60)
    example = PreparedMasks(PREPROCESSING, 4, canvas)(record)
    assert example.label.shape == (60, 60)
    with Image.open(io.BytesIO(record.encoded)) as image:
        np.testing.assert_array_equal(example.image[:40, :60], Resize(40)(image))
    with Image.open(io.BytesIO(record.label.encoded)) as mask:
        nearest = mask.resize((60, 40), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(example.label[:40], nearest)
    assert (example.label[40:] == IGNORED).all()


def test_an_image_that_is_longer_than_twice_its_width_is_scaled_down_to_fit():
    assert canvas_of([(400, 100)], PREPROCESSING) == (80, 20)
    assert canvas_of([(400, 100), (200, 100), (50, 50)], PREPROCESSING) == (80, 40)


def test_a_blank_counts_for_nothing():
    blank = PreparedMasks(PREPROCESSING, 4, (60, 40)).blank()
    assert blank.image.shape == (40, 60, 3)
    assert (blank.label == IGNORED).all()
