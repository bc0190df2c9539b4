import collections
import contextlib
import hashlib
import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from flaxmobile.errors import InputError
from flaxmobile.images import read_image
from flaxmobile.preprocessing import Preprocessing
from train.data import Dataset, open_dataset, scans
from train.data.augment import augment_digit
from train.data.examples import AugmentedImages, PreparedImages
from train.data.pipeline import eval_batches, train_batches

SIZES = {"train": 1257, "validation": 180, "test": 360}


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return open_dataset("digits")


@pytest.fixture
def plain() -> Preprocessing:
    return Preprocessing(image_size=32, resize_size=32)


def records(digits: Dataset, split: str):
    source = getattr(digits, split)
    return [source[index] for index in range(len(source))]


def pixels(record) -> bytes:
    with Image.open(io.BytesIO(record.encoded)) as image:
        assert (image.mode, image.size) == ("L", (8, 8))
        return image.tobytes()


def test_digits_have_three_splits_of_ten_classes(digits):
    assert {split: len(getattr(digits, split)) for split in SIZES} == SIZES
    assert digits.class_names == tuple("0123456789")
    assert (digits.name, digits.augment, digits.workers) == ("digits", augment_digit, 0)
    assert digits.preset == Preprocessing(64, 64, (0.5,) * 3, (0.5,) * 3)


@pytest.mark.parametrize("split", SIZES)
def test_classes_have_equal_shares_in_each_split(digits, split):
    share = SIZES[split] / 1797
    all_labels = collections.Counter(load_digits().target.tolist())
    labels = collections.Counter(record.label for record in records(digits, split))
    for label, count in all_labels.items():
        assert abs(labels[label] - share * count) < 2


def test_scans_are_those_of_scikit_learn():
    published, (images, labels) = load_digits(), scans.load_scans()
    np.testing.assert_array_equal(images, np.round(published.images * 255 / 16))
    np.testing.assert_array_equal(labels, published.target)


def test_the_splits_hold_each_scan_once(digits):
    published = load_digits()
    expected = collections.Counter(
        (label, np.round(image * 255 / 16).astype(np.uint8).tobytes())
        for label, image in zip(published.target.tolist(), published.images, strict=True)
    )
    found = collections.Counter()
    for split in SIZES:
        found.update((record.label, pixels(record)) for record in records(digits, split))
    assert found == expected


def test_the_test_split_is_the_same_on_every_machine(digits):
    found = sorted((record.label, pixels(record)) for record in records(digits, "test"))
    digest = hashlib.sha256(b"".join(scan for _, scan in found)).hexdigest()
    assert digest[:16] == "178dd51c391b8c09"


def test_training_digits_look_like_the_scans_and_not_like_their_mirror_images(digits, plain):
    reader = AugmentedImages(plain, digits.augment)
    batches = train_batches(digits, reader=reader, batch_size=1257, seed=0)
    with contextlib.closing(batches):
        batch = next(batches)
    assert batch["image"].shape == (1257, 32, 32, 3)
    sevens = [record for record in records(digits, "train") if record.label == 7]
    expected = np.mean([plain.crop(read_image(r.encoded, r.name)) for r in sevens], (0, 3))
    found = batch["image"][batch["label"] == 7].mean((0, 3))
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.95
    assert np.corrcoef(found[:, ::-1].ravel(), expected.ravel())[0, 1] < 0.9


def test_a_worker_evaluates_like_threads(digits, plain):
    with_threads, with_worker = (
        list(
            eval_batches(digits.test, reader=PreparedImages(plain), batch_size=128, workers=workers)
        )
        for workers in (0, 1)
    )
    assert len(with_threads) == len(with_worker) == 3
    for first, second in zip(with_threads, with_worker, strict=True):
        for name in first:
            np.testing.assert_array_equal(first[name], second[name])


def test_records_are_named(digits):
    assert digits.validation[7].name == "digits/validation/7"


def test_only_data_sets_of_tfds_need_its_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    monkeypatch.delitem(sys.modules, "train.data.tfds", raising=False)
    assert len(open_dataset("digits").train) == SIZES["train"]
    with pytest.raises(InputError, match=r"'cifar10': .* needs tensorflow-datasets .*\[tfds\]'$"):
        open_dataset("cifar10")
    with pytest.raises(InputError, match=r"^dataset 'digit' \(did you mean 'digits'\?\)"):
        open_dataset("digit")


def test_the_file_names_its_source_and_licence():
    with np.load(Path(scans.__file__).with_name("digits.npz")) as file:
        source = str(file["source"])
    assert "UCI" in source
    assert "CC BY 4.0" in source
