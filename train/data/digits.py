"""The embedded data: 1,797 scans of handwritten digits, which come with scikit-learn."""

import atexit
import contextlib
import functools
import io
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from flaxmobile.errors import InputError
from flaxmobile.preprocessing import Preprocessing
from train.data.augment import augment_digit
from train.data.records import Dataset
from train.data.scans import TENTHS, Scans, load_scans
from train.data.tfds import TfdsSource, class_names, prepared_builder

Example = tuple[int, dict[str, Any]]

_PRESET = Preprocessing(64, 64, mean=(0.5,) * 3, std=(0.5,) * 3)
"""No crop, because a digit fills its picture."""


def open_digits(data_dir: str | None) -> Dataset:
    """Open the digits; the first call writes them to TFDS's directory.

    Where the default one cannot be written, as without a home, they are written to a temporary one.
    """
    with _silence():
        if data_dir is None and str(tfds.core.constants.DATA_DIR).startswith("~"):
            data_dir = _temporary_directory()  # there is no home: a folder "~" would appear
        try:
            builder = prepared_builder(Digits.name, data_dir)
        except InputError as error:
            if data_dir is not None or not isinstance(error.__cause__, OSError):
                raise
            builder = prepared_builder(Digits.name, _temporary_directory())
    train, validation, test = (TfdsSource(builder, split) for split in TENTHS)
    return Dataset(
        name=Digits.name,
        class_names=class_names(builder),
        train=train,
        validation=validation,
        test=test,
        augment=augment_digit,
        preset=_PRESET,
        workers=0,
    )


class Digits(tfds.core.GeneratorBasedBuilder):
    """UCI's optical recognition of handwritten digits: grey 8×8 scans, without a download.

    1,257 training, 180 validation and 360 test images, the same on every machine; each split has
    all classes in equal shares.
    """

    VERSION = tfds.core.Version("1.0.0")
    code_path = None  # TFDS looks for files beside the code and fails in an editable install

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Handwritten digits: the 8×8 grey scans that come with scikit-learn.",
            homepage="https://archive.ics.uci.edu/dataset/80",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[Example]]:
        del dl_manager  # nothing is downloaded
        scans = load_scans()
        return {split: self._generate_examples(scans, scans.places(split)) for split in TENTHS}

    def _generate_examples(self, scans: Scans, places: np.ndarray) -> Iterator[Example]:
        for index in places.tolist():
            label = int(scans.digits[index])
            yield index, {"image": _as_png(scans.pixels[index]), "label": label}


@functools.cache
def _temporary_directory() -> str:
    """Make a directory that the end of the process removes."""
    directory = tempfile.TemporaryDirectory(prefix="flaxmobile-")
    atexit.register(directory.cleanup)
    return directory.name


def _as_png(pixels: np.ndarray) -> bytes:
    """Encode as PNG, for which TFDS itself would need TensorFlow."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep TFDS from printing and from drawing progress bars."""
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tfds.enable_progress_bar()
