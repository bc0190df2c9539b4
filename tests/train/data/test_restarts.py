"""JPEG files that are cut at their restart markers."""

import io

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from flaxmobile.images import UnreadableImageError
from train.data.augment import random_box
from train.data.decoding import EncodedImage
from train.data.restarts import read_restarts, restart_interval


@pytest.fixture(scope="module")
def photograph():
    return Image.fromarray(load_sample_image("china.jpg"))


def jpeg(image, **options):
    file = io.BytesIO()
    blocks = restart_interval(image.width)
    image.save(file, "jpeg", **{"quality": 90, "restart_marker_blocks": blocks} | options)
    return file.getvalue()


@pytest.mark.parametrize("size", [(640, 427), (427, 320), (229, 171), (31, 17), (7, 300)])
@pytest.mark.parametrize("mode", ["4:2:0", "4:4:4", "4:2:2", "L"])
def test_parts_have_the_pixels_of_the_whole(photograph, size, mode):
    image = photograph.resize(size)
    options = {"subsampling": mode}
    if mode == "L":
        image, options = image.convert("L"), {"restart_marker_blocks": 1}
    encoded = jpeg(image, **options)
    restarts = read_restarts(encoded)
    if mode == "4:4:4" and size[0] == 229:  # blocks of 8 pixels: 29 in a row, intervals of 3
        assert restarts is None
        return
    assert restarts.size == size
    whole = EncodedImage(encoded, "cat.jpg", divisible=False).decode()
    rng = np.random.default_rng(0)
    for side in (None, 8) * 10:
        box = random_box(*size, rng, 0.01)
        part, place = EncodedImage(encoded, "cat.jpg").decode_part(box, side)
        expected, where = EncodedImage(encoded, "cat.jpg", divisible=False).decode_part(box, side)
        assert place == where
        np.testing.assert_array_equal(part, expected)
        if side is None:
            np.testing.assert_array_equal(part, whole.crop(box))


def test_what_lies_outside_is_left_out(photograph):
    encoded = jpeg(photograph)
    restarts = read_restarts(encoded)
    assert restarts.interval == (64, 16)
    part, (x, y) = restarts.cut(encoded, (130, 82, 200, 110))
    assert (x, y) == (128, 80)
    with Image.open(io.BytesIO(part)) as image:
        assert image.size == (128, 32)
    assert len(part) < len(encoded) / 20
    whole = restarts.cut(encoded, (0, 0, 640, 427))
    assert whole == (encoded, (0, 0))


@pytest.mark.parametrize(
    "options",
    [
        {"restart_marker_blocks": 0},
        {"restart_marker_blocks": 7},  # of 40 in a row
        {"progressive": True},
        {"exif": Image.Exif()},
        {"format": "png"},
    ],
)
def test_other_files_are_not_cut(photograph, options):
    if "exif" in options:
        options["exif"][0x0112] = 6
    file = io.BytesIO()
    photograph.save(file, **{"format": "jpeg", "restart_marker_blocks": 4} | options)
    assert read_restarts(file.getvalue()) is None


def test_damaged_files_are_named_or_decoded_as_a_whole(photograph):
    encoded = jpeg(photograph)
    with pytest.raises(UnreadableImageError, match=r"cat\.jpg cannot be read as an image"):
        EncodedImage(encoded[: len(encoded) // 2], "cat.jpg").decode_part((0, 0, 50, 50))
    for length in range(0, 700, 7):
        assert read_restarts(encoded[:length]) is None or length > 600
    rng = np.random.default_rng(0)
    for _ in range(100):
        content = bytearray(encoded)
        for place in rng.integers(0, len(content) if rng.random() < 0.5 else 700, 5):
            content[place] = rng.integers(256)
        try:
            image = EncodedImage(bytes(content), "cat.jpg")
            image.decode_part((10, 10, 50, 50), 24)
        except UnreadableImageError as error:
            assert str(error).startswith("cat.jpg")
