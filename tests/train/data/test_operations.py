"""Every operation has torchvision's pixels."""

import itertools

import numpy as np
import pytest
from PIL import Image
from timm.data import auto_augment as timm_operations
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as reference
from torchvision.transforms.autoaugment import _apply_op

from train.data.operations import OPERATIONS, apply_operation, shift_hue

INTERPOLATIONS = {
    Image.Resampling.NEAREST: InterpolationMode.NEAREST,
    Image.Resampling.BILINEAR: InterpolationMode.BILINEAR,
    Image.Resampling.BICUBIC: InterpolationMode.BICUBIC,
}
TORCHVISIONS = [name for name in OPERATIONS if name != "SolarizeAdd"]
GEOMETRIC = {"ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"}
MAGNITUDES = {
    "ShearX": (-0.3, 0.07, 0.99), "ShearY": (-0.99, 0.15), "TranslateX": (-31.7, 14.2),
    "TranslateY": (-150, 3.9), "Rotate": (-135, -5.5, 27), "Posterize": (1, 4, 8),
    "Solarize": (0, 85.0, 226.67, 255), "Brightness": (-0.99, 0.3), "Color": (-0.9, 0, 0.99),
    "Contrast": (-0.42, 0.9), "Sharpness": (-0.99, 0.63),
}  # fmt: skip
CASES = [
    (name, magnitude, resampling)
    for name in TORCHVISIONS
    for magnitude, resampling in itertools.product(MAGNITUDES.get(name, (0,)), INTERPOLATIONS)
    if name in GEOMETRIC or resampling == Image.Resampling.NEAREST
]


@pytest.fixture(scope="module")
def image():
    """Soft colours with grain, darker than white and lighter than black."""
    rng = np.random.default_rng(0)
    blobs = Image.fromarray(rng.integers(30, 200, (5, 6, 3), np.uint8)).resize((61, 47))
    return Image.fromarray(np.asarray(blobs) + rng.integers(0, 30, (47, 61, 3), np.uint8))


@pytest.mark.parametrize(("name", "magnitude", "resampling"), CASES)
def test_operations_have_the_pixels_of_torchvision(image, name, magnitude, resampling):
    expected = _apply_op(image, name, magnitude, INTERPOLATIONS[resampling], None)
    result = apply_operation(image, name, magnitude, resampling)
    difference = np.abs(np.asarray(result, int) - np.asarray(expected, int))
    # torchvision turns a slope into degrees and back, so that a few pixels are rounded otherwise.
    assert difference.max() <= name.startswith("Shear")
    assert difference.mean() < 0.001
    same = np.array_equal(result, image)
    assert same == (
        name == "Identity"
        or (name, magnitude) in {("Color", 0), ("Posterize", 8), ("Solarize", 255)}
    )


def test_an_image_without_bits_is_black(image):
    """The model garden posterizes so; PIL and torchvision refuse it."""
    assert not np.asarray(apply_operation(image, "Posterize", 0)).any()


@pytest.mark.parametrize("name", sorted(GEOMETRIC))
def test_what_an_operation_uncovers_is_filled(image, name):
    magnitude = {"Rotate": 20, "ShearX": 0.3, "ShearY": 0.3}.get(name, 20)
    black, grey = (np.asarray(apply_operation(image, name, magnitude, fill=f)) for f in (0, 128))
    uncovered = (black == 0).all(-1)
    assert uncovered.mean() > 0.05
    assert (grey[uncovered] == 128).all()
    np.testing.assert_array_equal(grey[~uncovered], black[~uncovered])


@pytest.mark.parametrize("addition", [0, 33, 110])
def test_solarize_add_has_the_pixels_of_timm(image, addition):
    result = apply_operation(image, "SolarizeAdd", addition)
    np.testing.assert_array_equal(result, timm_operations.solarize_add(image, addition))


@pytest.mark.parametrize("turn", [-0.5, -0.137, 0, 0.02, 0.5])
def test_hue_has_the_pixels_of_torchvision(image, turn):
    np.testing.assert_array_equal(shift_hue(image, turn), reference.adjust_hue(image, turn))
