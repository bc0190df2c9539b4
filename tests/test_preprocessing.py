"""Torchvision's numbers pixel by pixel."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from flaxmobile import InputError, Preprocessing
from flaxmobile.preprocessing import center_crop, resize_shorter
from tests.networks import random_variables, short_model


def _noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


SIZES = [(64, 64), (63, 100), (101, 64), (37, 211), (250, 33), (8, 9), (224, 500), (1, 40)]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_resize_is_torchvisions_pixel_by_pixel(height, width, interpolation):
    image = Image.fromarray(_noise(height, width))
    mode = v2.InterpolationMode(interpolation)
    for size in (32, 37, 73):
        expected = v2.Resize(size, mode)(image)
        assert (np.asarray(resize_shorter(image, size, interpolation)) == expected).all()


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_centre_crop_is_torchvisions_pixel_by_pixel(height, width):
    image = Image.fromarray(_noise(height, width))
    for size in (1, 32, 33, 64, 97):
        expected = np.asarray(v2.CenterCrop(size)(image))
        assert (np.asarray(center_crop(image, size)) == expected).all()


@pytest.mark.parametrize(("image_size", "resize_size"), [(64, None), (64, 64), (63, 72), (80, 48)])
def test_the_whole_is_torchvisions(image_size, resize_size):
    preprocessing = Preprocessing(image_size, resize_size)
    reference = v2.Compose(
        [
            v2.Resize(resize_size or round(image_size / 0.875)),
            v2.CenterCrop(image_size),
            v2.PILToTensor(),
        ]
    )
    image = Image.fromarray(_noise(120, 90))
    pixels = reference(image).numpy().transpose(1, 2, 0)
    assert (np.asarray(preprocessing.crop(image)) == pixels).all()
    mean, std = np.array(preprocessing.mean), np.array(preprocessing.std)
    found = preprocessing(image)
    assert (found.shape, found.dtype) == ((image_size, image_size, 3), np.float32)
    np.testing.assert_allclose(found, (pixels / 255 - mean) / std, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "pixels"),
    [
        ({"mean": (0.5,) * 3, "std": (0.5,) * 3}, "pixels -1..1"),
        ({"mean": (0.0,) * 3, "std": (1.0,) * 3}, "pixels 0..1"),
        ({"mean": (0.0,) * 3, "std": (1 / 255,) * 3, "channel_order": "BGR"}, "pixels 0..255, BGR"),
        ({"mean": (0.4, 0.5, 0.6)}, "less the mean 0.4 0.5 0.6, divided by 0.229 0.224 0.225"),
    ],
)
def test_the_description_says_the_range_of_the_pixels(fields, pixels):
    found = Preprocessing(96, interpolation="bicubic", **fields).describe()
    assert found.startswith("shorter side to 110 (bicubic), centre 96×96, pixels ")
    assert found.endswith(pixels)


def test_default_is_224_out_of_256():
    image = Image.fromarray(_noise(256, 256))
    assert (np.asarray(Preprocessing().crop(image)) == _noise(256, 256)[16:-16, 16:-16]).all()


def test_blue_may_come_first_and_pixels_may_stay_as_they_are():
    preprocessing = Preprocessing(mean=(0.0,) * 3, std=(1 / 255,) * 3, channel_order="BGR")
    found = preprocessing.normalize(np.array([[(200, 16, 32), (0, 160, 64)]], np.uint8))
    np.testing.assert_allclose(found, [[(32, 16, 200), (64, 160, 0)]], rtol=1e-6)


def test_pixels_may_be_on_a_device():
    pixels = np.stack([_noise(4, 5), _noise(4, 5)])
    preprocessing = Preprocessing(channel_order="BGR")
    found = preprocessing.normalize(jnp.asarray(pixels))
    assert isinstance(found, jax.Array)
    np.testing.assert_allclose(found, preprocessing.normalize(pixels), atol=1e-6)


@pytest.mark.parametrize(
    ("own", "side", "resize"),
    [((224, 256), 192, 219), ((224, 232), 96, 99), ((520, 520), 64, 64), ((224, None), 192, None)],
)
def test_another_side_is_cropped_out_of_the_nearest_to_the_same_proportion(own, side, resize):
    found = Preprocessing(*own, mean=(0.5,) * 3).with_side(side)
    assert (found.image_size, found.resize_size) == (side, resize)
    assert found.mean == (0.5,) * 3


def test_the_default_crop_has_the_proportion_of_224_out_of_256():
    default, stated = Preprocessing(), Preprocessing(resize_size=256)
    for side in range(1, 600):
        assert default.with_side(side).shorter_side == stated.with_side(side).shorter_side


def test_mean_and_std_are_in_the_networks_order():
    caffe = [number / 255 for number in (103.939, 116.779, 123.68)]  # blue, green, red
    preprocessing = Preprocessing(mean=tuple(caffe), std=(1 / 255,) * 3, channel_order="BGR")
    found = preprocessing.normalize(np.array([[[123.68, 116.779, 103.939]]]))
    np.testing.assert_allclose(found, 0, atol=1e-4)


def test_grey_is_pils():
    preprocessing = Preprocessing(mean=(0.0,), std=(1 / 255,), channel_order="grey")
    found = preprocessing.normalize(_noise(20, 30))
    expected = np.asarray(Image.fromarray(_noise(20, 30)).convert("L"), np.float32)
    assert found.shape == (20, 30, 1)
    np.testing.assert_allclose(found[..., 0], expected, atol=0.51)  # PIL rounds


def test_one_channel_is_grey_with_the_average_of_the_colours():
    colours = Preprocessing(64, 72, (0.1, 0.2, 0.6), (0.2, 0.3, 0.4))
    grey = colours.for_channels(1)
    assert (grey.channel_order, grey.image_size, grey.resize_size) == ("grey", 64, 72)
    np.testing.assert_allclose([grey.mean, grey.std], [[0.3], [0.3]])
    assert grey.mean_color == (77, 77, 77)
    assert colours.mean_color == (26, 51, 153)
    assert grey.for_channels(1) == grey
    assert colours.for_channels(3) == colours
    assert Preprocessing.from_json(json.loads(json.dumps(grey.to_json()))) == grey


def test_json_brings_the_same_numbers_back():
    given = Preprocessing(96, 100, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "bicubic", "BGR")
    assert Preprocessing.from_json(json.loads(json.dumps(given.to_json()))) == given


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_size": 0}, "image_size is 0"),
        ({"resize_size": -1}, "resize_size"),
        ({"interpolation": "bilinaer"}, "'bilinaer'.*mean 'bilinear'.*accepted: bilinear, bicubic"),
        ({"channel_order": "BRG"}, "'BRG'.*accepted: RGB, BGR, grey"),
        ({"mean": (0.5, 0.5)}, r"per channel \(3\)"),
        ({"channel_order": "grey"}, r"per channel \(1\)"),
        ({"std": (1.0, 0.0, 1.0)}, "std above 0"),
        ({"std": (1.0, float("nan"), 1.0)}, "std above 0"),
    ],
)
def test_wrong_numbers_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        Preprocessing(**fields)


@pytest.mark.parametrize("sides", [(1, 30_000), (30_000, 1), (2, 4_000)])
def test_of_a_very_long_image_only_the_middle_is_scaled(sides, monkeypatch):
    """At 24 pixels the whole still fits into memory, to compare with."""
    pixels = np.random.default_rng(0).integers(0, 256, (*sides, 3), np.uint8)
    image, areas, resize = Image.fromarray(pixels), [], Image.Image.resize
    whole = np.asarray(center_crop(resize_shorter(image, 27), 24), int)

    def spy(image, size, *rest):
        areas.append(size[0] * size[1])
        return resize(image, size, *rest)

    monkeypatch.setattr(Image.Image, "resize", spy)
    crop = np.asarray(Preprocessing(24, 27).crop(image), int)
    assert areas == [24 * 27]
    assert np.abs(crop - whole).max() <= 1


@pytest.mark.parametrize("size", [(40, 24), (24, 40), (90, 30)])
def test_a_crop_of_two_sides_is_torchvisions(size):
    image = Image.fromarray(_noise(70, 91))
    ours = Preprocessing(image_size=(np.int64(size[0]), size[1]), resize_size=np.int64(48))
    expected = np.asarray(v2.CenterCrop(list(size))(v2.Resize(48)(image)))
    assert (np.asarray(ours.crop(image)) == expected).all()
    assert f"centre {size[0]}×{size[1]}" in ours.describe()
    assert Preprocessing.from_json(json.loads(json.dumps(ours.to_json()))) == ours
    assert Preprocessing(size).shorter_side == round(max(size) / 0.875)
    with pytest.raises(InputError, match="accepted: here, a square"):
        _ = ours.side


def test_tensors_of_torch_are_refused_and_preprocessing_is_named():
    model = short_model()
    with pytest.raises(InputError, match=r"images are of type .*Tensor.*Preprocessing"):
        model.apply(random_variables(model), torch.zeros(1, 32, 32, 3))
