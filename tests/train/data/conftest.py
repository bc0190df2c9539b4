"""Image folders to train on."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flaxmobile.preprocessing import Preprocessing
from train.data import Dataset, open_dataset
from train.data.examples import AugmentedImages
from train.data.pipeline import Batches, train_batches

WriteImages = Callable[..., None]
MakeBatches = Callable[..., Batches]


def _write_images(folder: Path, count: int, first: int = 0, suffix: str = ".png") -> None:
    """Noise of several sizes whose red is 5 times the image's number, all over."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        rng = np.random.default_rng(number)
        pixels = rng.integers(0, 256, (30 + number % 7, 40, 3), np.uint8)
        pixels[..., 0] = 5 * number
        Image.fromarray(pixels).save(folder / f"{number:03}{suffix}")


@pytest.fixture
def write_images() -> WriteImages:
    return _write_images


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Three classes of 5 training, 3 validation and 2 test images, numbered within each split."""
    root = tmp_path / "flowers"
    for label, name in enumerate(("daisy", "rose", "tulip")):
        for split, count in (("train", 5), ("val", 3), ("test", 2)):
            _write_images(root / split / name, count, first=count * label)
    return root


@pytest.fixture
def flowers(image_folder: Path) -> Dataset:
    return open_dataset(f"folder:{image_folder}")


@pytest.fixture
def small() -> Preprocessing:
    return Preprocessing(image_size=24)


@pytest.fixture
def train(flowers: Dataset, small: Preprocessing) -> MakeBatches:
    """Training batches of flowers, with the given options."""

    def make(**options: object) -> Batches:
        reader = AugmentedImages(small, flowers.augment)
        defaults = {"reader": reader, "batch_size": 4, "seed": 0}
        return train_batches(flowers, **(defaults | options))

    return make
