import numpy as np
import PIL
import pytest
import torch
from PIL import Image, ImageOps
from scipy import stats
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms.functional import resized_crop

from flaxmobile.preprocessing import INTERPOLATIONS
from tests.train.data.batches import as_file
from train.data import augment
from train.data.augment import (
    augment_digit,
    augment_photograph,
    random_box,
    random_horizontal_flip,
    random_resized_crop,
)

MODES = {
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
    "nearest": InterpolationMode.NEAREST,
}


def photograph(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(width * height).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def torchvision_box(width: int, height: int) -> tuple[int, int, int, int]:
    image = torch.empty(3, height, width)
    top, left, h, w = RandomResizedCrop.get_params(image, (0.08, 1.0), (3 / 4, 4 / 3))
    return left, top, left + w, top + h


@pytest.mark.parametrize(("width", "height"), [(500, 375), (100, 300), (37, 41)])
def test_boxes_are_distributed_like_those_of_torchvision(width, height):
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    ours = np.array([random_box(width, height, rng) for _ in range(3000)], float)
    theirs = np.array([torchvision_box(width, height) for _ in range(3000)], float)
    for quantity in (
        lambda box: (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]),
        lambda box: (box[:, 2] - box[:, 0]) / (box[:, 3] - box[:, 1]),
        lambda box: box[:, 0],
        lambda box: box[:, 1],
        lambda box: box[:, 2],
        lambda box: box[:, 3],
    ):
        assert stats.ks_2samp(quantity(ours), quantity(theirs)).pvalue > 0.01


@pytest.mark.parametrize(("width", "height"), [(10, 1000), (1000, 10), (7, 333), (1, 50), (101, 2)])
def test_images_too_narrow_for_any_box_are_cropped_in_the_centre_like_torchvision(width, height):
    assert random_box(width, height, np.random.default_rng(0)) == torchvision_box(width, height)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (2, 3), (64, 64), (500, 375)])
def test_boxes_lie_in_the_image(width, height):
    rng = np.random.default_rng(1)
    boxes = np.array([random_box(width, height, rng) for _ in range(500)])
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2] <= width).all()
    assert (boxes[:, 3] <= height).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert (boxes.min(0)[:2] == 0).all()
    assert (boxes.max(0)[2:] == (width, height)).all()


def ours_and_torchvisions(image, size, seed, interpolation):
    """A random crop as int64, and torchvision's of the same box."""
    left, top, right, bottom = random_box(*image.size, np.random.default_rng(seed))
    crop = random_resized_crop(as_file(image), size, np.random.default_rng(seed), interpolation)
    expected = resized_crop(
        image, top, left, bottom - top, right - left, [size, size], MODES[interpolation]
    )
    return np.asarray(crop).astype(int), np.asarray(expected).astype(int)


@pytest.mark.parametrize("interpolation", MODES)
@pytest.mark.parametrize("seed", range(5))
def test_random_resized_crop_has_the_pixels_of_torchvision(monkeypatch, seed, interpolation):
    monkeypatch.setattr(augment, "cykooz_resizer", None)
    crop, expected = ours_and_torchvisions(photograph(203, 157), 96, seed, interpolation)
    np.testing.assert_array_equal(crop, expected)


@pytest.mark.parametrize("interpolation", MODES)
@pytest.mark.parametrize("sides", [(203, 157), (500, 375), (4000, 3000), (1, 9), (900, 2)])
@pytest.mark.parametrize("size", [32, 224])
def test_vectorized_pixels_are_one_off_at_most(sides, size, interpolation):
    crop, expected = ours_and_torchvisions(photograph(*sides), size, 0, interpolation)
    difference = crop - expected
    assert np.abs(difference).max() <= (interpolation == "bilinear")
    assert abs(difference.mean()) < 0.01


@pytest.mark.parametrize(("version", "known"), [("11.0.0", True), ("13.9", True), ("14.0", False)])
def test_bilinear_crops_are_vectorized_where_pils_structures_are_known(monkeypatch, version, known):
    pytest.importorskip("cykooz_resizer")
    monkeypatch.setattr(PIL, "__version__", version)
    crop, expected = ours_and_torchvisions(photograph(500, 375), 224, 0, "bilinear")
    assert (crop != expected).any() == known


def test_random_horizontal_flip_mirrors_half_of_the_images():
    image, rng = photograph(8, 6), np.random.default_rng(0)
    mirrored = 0
    for _ in range(1000):
        result = np.asarray(random_horizontal_flip(image, rng))
        if (result != np.asarray(image)).any():
            np.testing.assert_array_equal(result, ImageOps.mirror(image))
            mirrored += 1
    assert 450 < mirrored < 550


def test_photographs_are_cropped_and_mirrored():
    image = photograph(80, 60)
    crops = {}
    for seed in range(20):
        rng = np.random.default_rng(seed)
        crop = np.asarray(random_resized_crop(as_file(image), 32, rng))
        result = np.asarray(augment_photograph(as_file(image), 32, np.random.default_rng(seed)))
        crops[seed] = (result == crop).all()
        np.testing.assert_array_equal(result, crop if crops[seed] else crop[:, ::-1])
    assert len(set(crops.values())) == 2


class NoChange:
    """A generator that always draws the middle of a symmetric range."""

    def uniform(self, low, high, count):
        return np.zeros(count)


def digit() -> Image.Image:
    """A 7 of 8×8 pixels."""
    pixels = np.zeros((8, 8), np.uint8)
    pixels[1, 1:7] = 255
    for row in range(2, 7):
        pixels[row, 7 - row] = 255
    return Image.fromarray(pixels).convert("RGB")


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize("size", [64, 96, 224])
def test_unchanged_digits_are_those_of_evaluation(size, interpolation):
    plain = digit().resize((size, size), INTERPOLATIONS[interpolation])
    result = augment_digit(as_file(digit()), size, NoChange(), interpolation)
    np.testing.assert_allclose(np.asarray(result, int), np.asarray(plain, int), atol=1)


def test_digits_vary_but_stay_in_place_upright_and_unmirrored():
    plain = np.asarray(digit().resize((64, 64), Image.Resampling.BILINEAR), float)
    rng = np.random.default_rng(0)
    results = np.array([augment_digit(as_file(digit()), 64, rng) for _ in range(300)], float)
    mean = results.mean(0)

    def likeness(other):
        return np.corrcoef(mean.ravel(), other.ravel())[0, 1]

    assert likeness(plain) > 0.9
    assert likeness(plain) > likeness(plain[:, ::-1]) + 0.3
    assert likeness(plain) > likeness(plain[::-1]) + 0.3
    ink = results.sum((1, 2, 3)) / plain.sum()
    assert 0.5 < ink.min() < 0.95 < 1.02 < ink.max() < 1.3
    rows = (results.sum((2, 3)) * np.arange(64)).sum(1) / results.sum((1, 2, 3))
    assert rows.std() > 1


@pytest.mark.parametrize("augment", [augment_digit, augment_photograph])
def test_the_generator_alone_decides(augment):
    image = digit()
    first, again, other = (
        np.asarray(augment(as_file(image), 64, np.random.default_rng(seed))) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
