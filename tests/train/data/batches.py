"""Batches to look at."""

import contextlib
import io
import itertools

import numpy as np
from PIL import Image

from train.data.decoding import EncodedImage
from train.data.records import Record


def take(batches, count=None):
    with contextlib.closing(batches):
        return list(itertools.islice(batches, count))


def numbers(batches):
    """Which images these are: `image_folder` writes the number into the red channel."""
    return np.concatenate([batch["image"][:, 12, 12, 0] for batch in batches]) // 5


def assert_equal(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


class OneColour:
    """Records in memory that count how often they are read."""

    def __init__(self, count):
        self.count, self.reads = count, 0

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.reads += 1
        file = io.BytesIO()
        Image.new("RGB", (8, 8), (index % 256, 0, 0)).save(file, "png")
        return Record(file.getvalue(), 0, f"memory/{index}")


def as_file(image, format="bmp", **options):
    """An image as the reader gets it: the content of a file."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return EncodedImage(file.getvalue(), f"image.{format}")
