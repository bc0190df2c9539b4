import collections
import contextlib
import hashlib
import io
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from sklearn.datasets import load_digits

from flaxmobile.preprocessing import Preprocessing, read_image
from train.data import Dataset, open_dataset
from train.data.augment import augment_digit
from train.data.digits import Digits
from train.data.examples import AugmentedImages, PreparedImages
from train.data.pipeline import eval_batches, train_batches

SIZES = {"train": 1257, "validation": 180, "test": 360}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("tfds"))


@pytest.fixture(scope="module")
def digits(data_dir) -> Dataset:
    return open_dataset("digits", data_dir)


@pytest.fixture
def plain() -> Preprocessing:
    return Preprocessing(image_size=32, resize_size=32)


def records(digits: Dataset, split: str):
    source = getattr(digits, split)
    return [source[index] for index in range(len(source))]


def pixels(record) -> bytes:
    with Image.open(io.BytesIO(record.encoded)) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "L", (8, 8))
        return image.tobytes()


def files(data_dir):
    return sorted(path for path in data_dir.rglob("*") if path.is_file())


def test_digits_have_three_splits_of_ten_classes(digits):
    assert {split: len(getattr(digits, split)) for split in SIZES} == SIZES
    assert digits.class_names == tuple("0123456789")
    assert (digits.name, digits.augment, digits.workers) == ("digits", augment_digit, 0)
    assert digits.preset == Preprocessing(64, 64, (0.5,) * 3, (0.5,) * 3)


@pytest.mark.parametrize("home", ["/proc/none", "~"])  # "~": there is no home
def test_digits_need_no_home_that_can_be_written(home, digits, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", f"{home}/tensorflow_datasets")
    assert records(open_dataset("digits"), "test") == records(digits, "test")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("split", SIZES)
def test_classes_have_equal_shares_in_each_split(digits, split):
    share = SIZES[split] / 1797
    all_labels = collections.Counter(load_digits().target.tolist())
    labels = collections.Counter(record.label for record in records(digits, split))
    for label, count in all_labels.items():
        assert abs(labels[label] - share * count) < 2


def test_the_splits_hold_each_scan_of_scikit_learn_once(digits):
    scans = load_digits()
    expected = collections.Counter(
        (label, np.round(image * 255 / 16).astype(np.uint8).tobytes())
        for label, image in zip(scans.target.tolist(), scans.images, strict=True)
    )
    found = collections.Counter()
    for split in SIZES:
        found.update((record.label, pixels(record)) for record in records(digits, split))
    assert found == expected


def test_the_test_split_is_the_same_on_every_machine(digits):
    scans = sorted((record.label, pixels(record)) for record in records(digits, "test"))
    digest = hashlib.sha256(b"".join(scan for _, scan in scans)).hexdigest()
    assert digest[:16] == "178dd51c391b8c09"


def test_training_digits_look_like_the_scans_and_not_like_their_mirror_images(digits, plain):
    reader = AugmentedImages(plain, digits.augment)
    batches = train_batches(digits, reader=reader, batch_size=1257, seed=0)
    with contextlib.closing(batches):
        batch = next(batches)
    assert batch["image"].shape == (1257, 32, 32, 3)
    scans = [record for record in records(digits, "train") if record.label == 7]
    expected = np.mean([plain.crop(read_image(r.encoded, r.name)) for r in scans], (0, 3))
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


def test_the_second_call_reuses_what_the_first_has_written(digits, data_dir, monkeypatch):
    def fail(*_):
        raise AssertionError("generated again")

    monkeypatch.setattr(Digits, "_generate_examples", fail)
    again = open_dataset("digits", data_dir)
    assert [again.test[index] for index in range(9)] == records(digits, "test")[:9]


def test_preparing_is_silent(tmp_path, capfd, caplog):
    open_dataset("digits", str(tmp_path))
    assert capfd.readouterr() == ("", "")
    assert not caplog.messages


def test_an_exception_while_preparing_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Image.Image, "save", interrupt)
        open_dataset("digits", str(tmp_path))
    assert not files(tmp_path)
    assert len(open_dataset("digits", str(tmp_path)).train) == SIZES["train"]


def test_a_process_killed_while_preparing_does_no_harm(tmp_path):
    script = """
        import os, signal, sys
        from PIL import Image
        from train.data import open_dataset

        def save(image, *arguments, original=Image.Image.save, calls=[]):
            calls.append(1)
            if len(calls) == 1500:
                os.kill(os.getpid(), signal.SIGKILL)
            original(image, *arguments)

        Image.Image.save = save
        open_dataset("digits", sys.argv[1])
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    assert subprocess.run(command, check=False, timeout=120).returncode == -9
    assert files(tmp_path)
    digits = open_dataset("digits", str(tmp_path))
    assert {split: len(getattr(digits, split)) for split in SIZES} == SIZES


def test_two_processes_may_prepare_at_once(tmp_path, monkeypatch):
    original = Digits._generate_examples
    others = []

    def generate(self, *arguments):
        if not others:
            others.append(None)
            others[0] = open_dataset("digits", str(tmp_path))
        return original(self, *arguments)

    monkeypatch.setattr(Digits, "_generate_examples", generate)
    assert len(open_dataset("digits", str(tmp_path)).train) == SIZES["train"]
    assert len(others[0].train) == SIZES["train"]
