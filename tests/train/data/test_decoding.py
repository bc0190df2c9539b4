"""Image files that are decoded as far as a crop needs them."""

import io

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps
from sklearn.datasets import load_sample_image

from flaxmobile.images import UnreadableImageError
from tests.train.data.batches import as_file
from train.data.augment import random_resized_crop
from train.data.decoding import EncodedImage


@pytest.fixture(scope="module", params=["china.jpg", "flower.jpg"])
def photograph(request):
    """640×424 pixels: divisible by 8."""
    return Image.fromarray(load_sample_image(request.param)[:424])


def jpeg(image, orientation=1, **options):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return as_file(image, "jpeg", **{"quality": 90, "exif": exif} | options)


def in_full(file):
    """The image of a file, decoded as a whole and encoded without loss."""
    return as_file(file.decode())


def crops(make, side, interpolation="bilinear", count=4):
    """Random crops of the file that `make` returns, as float [count, side, side, 3]."""
    rng = np.random.default_rng(0)
    images = [random_resized_crop(make(), side, rng, interpolation, 0.5) for _ in range(count)]
    return np.array(images, float)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("side", "divisor"), [(56, 2), (28, 4), (14, 8)])
def test_crops_at_reduced_scale_differ_by_less_than_1_of_255(
    photograph, side, divisor, interpolation
):
    whole = (0, 0, *photograph.size)
    part, place = jpeg(photograph).decode_part(whole, side)
    assert part.size == (640 / divisor, 424 / divisor)
    assert place == (0, 0, *part.size)
    reduced = crops(lambda: jpeg(photograph), side, interpolation)
    exact = crops(lambda: in_full(jpeg(photograph)), side, interpolation)
    assert 0 < np.abs(reduced - exact).mean() < 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(424, 640), (421, 637)])
def test_turned_photographs_are_cropped_upright(photograph, orientation, size):
    """Those of an odd number of pixels in full, because their last pixel would be misplaced."""
    image = photograph.resize(size)
    turned = jpeg(image).decode()
    turned.getexif()[ExifTags.Base.Orientation] = orientation
    upright = ImageOps.exif_transpose(turned)
    assert jpeg(image, orientation).size == upright.size
    difference = np.abs(
        crops(lambda: jpeg(image, orientation), 28) - crops(lambda: as_file(upright), 28)
    ).mean()
    is_reduced = orientation == 1 or size == (424, 640)
    assert 0 < difference < 1 if is_reduced else difference == 0


@pytest.mark.parametrize(("side", "interpolation"), [(224, "bilinear"), (28, "nearest")])
def test_crops_that_need_all_pixels_are_exact(photograph, side, interpolation):
    exact = crops(lambda: in_full(jpeg(photograph)), side, interpolation)
    np.testing.assert_array_equal(crops(lambda: jpeg(photograph), side, interpolation), exact)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_modes_become_rgb_at_reduced_scale(photograph, mode):
    image = photograph.convert(mode)
    exact = crops(lambda: in_full(jpeg(image)), 28)
    assert 0 < np.abs(crops(lambda: jpeg(image), 28) - exact).mean() < 1.5


@pytest.mark.parametrize("format", ["png", "tiff"])
def test_files_of_other_formats_are_turned_once(photograph, format):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    file = as_file(photograph, format, exif=exif)
    assert file.size == (424, 640)
    assert file.decode().size == file.decode().size == (424, 640)


def test_a_cut_file_is_named(photograph):
    content = io.BytesIO()
    photograph.save(content, "jpeg")
    file = EncodedImage(content.getvalue()[:5000], "cat.jpg")
    with pytest.raises(UnreadableImageError, match=r"cat\.jpg cannot be read as an image"):
        file.decode()
    with pytest.raises(UnreadableImageError, match=r"cat\.jpg is not an image"):
        EncodedImage(b"GIF89", "cat.jpg")
