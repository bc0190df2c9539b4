"""Classification of the embedded digits."""

import numpy as np

from flaxmobile.preprocessing import Preprocessing
from train.data.arrays import ArraySource
from train.data.augment import augment_digit
from train.data.records import Dataset
from train.data.scans import TENTHS, load_scans

PRESET = Preprocessing(64, 64, mean=(0.5,) * 3, std=(0.5,) * 3)
"""No crop, because a digit fills its picture."""


def open_digits() -> Dataset:
    """Open the digits, the same on every machine; each split is in the order of the file."""
    scans = load_scans()
    places = {split: np.sort(scans.places(split)) for split in TENTHS}
    train, validation, test = (
        ArraySource(f"digits/{split}", scans.pixels[chosen], scans.digits[chosen])
        for split, chosen in places.items()
    )
    return Dataset(
        name="digits",
        class_names=tuple("0123456789"),
        train=train,
        validation=validation,
        test=test,
        augment=augment_digit,
        preset=PRESET,
        workers=0,
    )
