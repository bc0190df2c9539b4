"""Data sets of TFDS, which are registered by defining them here."""

import contextlib
import io
import json
import logging
import pickle
import socket
import struct
import sys
import urllib.request
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from PIL import Image

from flaxmobile.errors import InputError
from flaxmobile.images import UnreadableImageError
from train.data import Selection, open_dataset
from train.data.augment import augment_photograph


def jpeg(number):
    file = io.BytesIO()
    Image.fromarray(np.full((10, 12, 3), number, np.uint8)).save(file, "jpeg")
    return file.getvalue()


class ToyPhotos(tfds.core.GeneratorBasedBuilder):
    """40 training, 5 validation and 7 test images of two classes."""

    VERSION = tfds.core.Version("1.0.0")
    SPLITS: ClassVar = {"train": 40, "validation": 5, "test": 7}
    FEATURES: ClassVar = {
        "image": tfds.features.Image(),
        "label": tfds.features.ClassLabel(names=["cat", "dog"]),
        "mask": tfds.features.Image(),
    }

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(self.FEATURES)
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split, n) for split, n in self.SPLITS.items()}

    def _generate_examples(self, split, count):
        for number in range(count):
            yield number, self.example(split, number)

    def example(self, split, number):
        return {"image": jpeg(number), "label": number % 2, "mask": b"not an image"}


class ToyNoValidation(ToyPhotos):
    SPLITS: ClassVar = {"train": 40, "test": 7}


class ToyTrainAlone(ToyPhotos):
    SPLITS: ClassVar = {"train": 40}


class ToyUnlabelledTest(ToyPhotos):
    def example(self, split, number):
        return {**super().example(split, number), "label": -1 if split == "test" else 1}


class ToyWrongLabel(ToyPhotos):
    def example(self, split, number):
        return {**super().example(split, number), "label": -1}


class ToyNoTrain(ToyPhotos):
    SPLITS: ClassVar = {"dev": 4, "test": 7}


class ToyTiny(ToyPhotos):
    SPLITS: ClassVar = {"train": 3}


class ToyNoClasses(ToyPhotos):
    FEATURES: ClassVar = {"image": tfds.features.Image(), "label": tfds.features.Scalar(np.int64)}


class ToyNoImages(ToyPhotos):
    FEATURES: ClassVar = {
        "text": tfds.features.Text(),
        "label": tfds.features.ClassLabel(num_classes=2),
    }


class ToyFloats(ToyPhotos):
    FEATURES: ClassVar = {
        "image": tfds.features.Image(shape=(8, 8, 1), dtype=np.float32),
        "label": tfds.features.ClassLabel(num_classes=2),
    }


class ToyArrays(ToyPhotos):
    def example(self, split, number):
        return {**super().example(split, number), "image": np.zeros((8, 8, 3), np.uint8)}


class ToyManual(ToyPhotos):
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Ask the\nauthors."

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples("train", dl_manager.manual_dir.name)}


class ToyRemote(ToyPhotos):
    url_infos: ClassVar = {"https://data.invalid/images.zip": None}

    def _split_generators(self, dl_manager):
        raise AssertionError("the network was tried")


class ToyGone(ToyPhotos):
    def _split_generators(self, dl_manager):
        raise tfds.download.DownloadError("images.zip: 404")


class ToyBug(ToyPhotos):
    def example(self, split, number):
        raise TypeError("a defect of the dataset's own code")


def labels(source):
    return [source[index].label for index in range(len(source))]


def test_a_tfds_dataset_is_prepared_and_read_by_its_name(tmp_path):
    dataset = open_dataset("toy_photos", str(tmp_path))
    assert (dataset.name, dataset.class_names) == ("toy_photos", ("cat", "dog"))
    assert [len(s) for s in (dataset.train, dataset.validation, dataset.test)] == [40, 5, 7]
    assert (dataset.preset, dataset.augment) == (None, augment_photograph)
    for source in (dataset.train, dataset.validation, dataset.test):
        expected = {jpeg(number): number % 2 for number in range(len(source))}
        found = {source[index].encoded: source[index].label for index in range(len(source))}
        assert found == expected
    assert dataset.train[3].name == "toy_photos/train/3"


def test_a_prepared_tfds_dataset_needs_neither_its_code_nor_the_network(tmp_path, monkeypatch):
    first = open_dataset("toy_photos", str(tmp_path))
    monkeypatch.setattr(ToyPhotos, "_split_generators", None)
    second = open_dataset("toy_photos:1.0.0", str(tmp_path))
    assert second.train[5] == first.train[5]


def test_tfds_sources_can_be_pickled_without_the_builder(tmp_path):
    source = open_dataset("toy_photos", str(tmp_path)).train
    stored = pickle.dumps(source)
    assert b"ToyPhotos" not in stored
    assert pickle.loads(stored)[11] == source[11]


@pytest.mark.parametrize(("name", "test"), [("toy_no_validation", 7), ("toy_train_alone", None)])
def test_the_last_tenth_of_train_stands_in_for_validation(tmp_path, name, test):
    dataset = open_dataset(name, str(tmp_path))
    assert (len(dataset.train), len(dataset.validation)) == (36, 4)
    assert (dataset.test and len(dataset.test)) == test
    parts = [
        {source[index].encoded for index in range(len(source))}
        for source in (dataset.train, dataset.validation)
    ]
    assert len(parts[0] | parts[1]) == 40
    assert not parts[0] & parts[1]
    assert dataset.validation[0].name == f"{name}/train[90%:]/0"


def test_a_test_split_without_labels_is_none(tmp_path):
    dataset = open_dataset("toy_unlabelled_test", str(tmp_path))
    assert dataset.test is None
    assert labels(dataset.validation) == [1] * 5


def test_a_label_outside_the_classes_names_the_record(tmp_path):
    dataset = open_dataset("toy_wrong_label", str(tmp_path))
    with pytest.raises(
        InputError, match=r"toy_wrong_label/train/2 has label -1; .* 0 to 1"
    ) as error:
        dataset.train[2]
    assert not isinstance(error.value, UnreadableImageError)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("toy_no_train", ["no train split", "dev, test"]),
        ("toy_tiny", ["toy_tiny/train[90%:]", "no images"]),
        ("toy_no_classes", ["image (Image) and label (ClassLabel)", "has image, label"]),
        ("toy_no_images", ["image (Image) and label (ClassLabel)", "has text, label"]),
        ("toy_floats", ["image (Image) and label (ClassLabel)"]),
        ("toy_manual", ["cannot be prepared", "Ask the authors."]),
        ("toy_gone", ["'toy_gone' is not in", "cannot be prepared there", "images.zip: 404"]),
        ("toy_photos/large", ["toy_photos/large", "BuilderConfig large not found"]),
        ("toy_photos/qqq", ["toy_photos/qqq", "BuilderConfig qqq not found"]),
        ("toy_photos:9.9.9", ["cannot be opened", "9.9.9", "1.0.0"]),
        ("toy_photos/", ["'toy_photos/' cannot be opened", "dataset_name[/config_name]"]),
        ("toy_photo", ["unknown dataset 'toy_photo'", "did you mean 'toy_photos'?"]),
        ("digit", ["unknown", "did you mean 'digits'?", "digits, folder:PATH", "TFDS"]),
        ("imagenet2021", ["unknown", "did you mean 'imagenet2012'?"]),
        ("folders/flowers", ["unknown dataset 'folders/flowers'", "folder:PATH"]),
        ("", ["unknown dataset ''", "folder:PATH"]),
    ],
)
def test_a_tfds_dataset_that_cannot_be_used_is_refused_with_the_reason(tmp_path, name, said):
    with pytest.raises(InputError) as error:
        open_dataset(name, str(tmp_path))
    assert "\n" not in str(error.value)
    assert not str(error.value).endswith(":")
    for part in said:
        assert part in str(error.value)


def test_preparing_arrays_without_tensorflow_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(InputError, match=r"'toy_arrays' .*tensorflow.*pip install tensorflow-cpu"):
        open_dataset("toy_arrays", str(tmp_path))
    assert not list((tmp_path / "toy_arrays").iterdir())


def test_without_network_a_download_is_refused_at_once(tmp_path, monkeypatch):
    def offline(*_):
        raise socket.gaierror("Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", offline)
    monkeypatch.setattr(urllib.request, "getproxies", dict)
    with pytest.raises(InputError, match=r"'toy_remote' is not in .*toy_remote.* data.invalid"):
        open_dataset("toy_remote", str(tmp_path))


def test_a_proxy_is_trusted_to_know_the_hosts(tmp_path, monkeypatch):
    monkeypatch.setattr(urllib.request, "getproxies", lambda: {"https": "http://proxy"})
    with pytest.raises(InputError, match="the network was tried"):
        open_dataset("toy_remote", str(tmp_path))


def test_defects_of_a_dataset_keep_their_traceback(tmp_path):
    with pytest.raises(TypeError, match="own code"):
        open_dataset("toy_bug", str(tmp_path))


def test_a_data_dir_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"'toy_photos' .*file"):
        open_dataset("toy_photos", str(tmp_path / "file"))


def test_an_incomplete_tfds_directory_is_named(tmp_path):
    (tmp_path / "toy_photos" / "1.0.0").mkdir(parents=True)
    with pytest.raises(InputError, match=r"toy_photos/1.0.0 is an incomplete TFDS dataset: remove"):
        open_dataset("toy_photos", str(tmp_path))


def rewrite_as_tfrecord(directory):
    """Turn a prepared data set into what TFDS writes with TensorFlow, checksums aside."""
    for path in directory.glob("*array_record*"):
        with contextlib.closing(array_record_module.ArrayRecordReader(str(path))) as reader:
            records = [reader.read([index])[0] for index in range(reader.num_records())]
        path.unlink()
        framed = (struct.pack("<QI", len(r), 0) + r + struct.pack("<I", 0) for r in records)
        Path(str(path).replace("array_record", "tfrecord")).write_bytes(b"".join(framed))
    state_format(directory, "tfrecord")


def state_format(directory, name):
    info = directory / "dataset_info.json"
    values = json.loads(info.read_text().replace("array_record", name))
    info.write_text(json.dumps({**values, "fileFormat": name}))


def contents(source):
    return [source[index][:2] for index in range(len(source))]


def test_a_dataset_prepared_as_tfrecord_is_read_without_tensorflow(tmp_path, monkeypatch):
    selection = Selection(splits={"train": "train[10%:70%]", "validation": "train[70%:]+test"})
    first = open_dataset("toy_photos", str(tmp_path), selection)
    expected = {s: contents(getattr(first, s)) for s in ("train", "validation", "test")}
    rewrite_as_tfrecord(tmp_path / "toy_photos" / "1.0.0")
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    second = open_dataset("toy_photos", str(tmp_path), selection)
    for split, count in {"train": 24, "validation": 19, "test": 7}.items():
        source = getattr(second, split)
        assert contents(source) == expected[split]
        assert len(source) == count
        assert contents(pickle.loads(pickle.dumps(source))) == contents(source)


@pytest.mark.parametrize(
    ("cut", "said"), [(-1, "cut after 39 records of 40"), (0, "empty"), (17, "cut after 0 records")]
)
def test_a_tfrecord_file_that_is_cut_is_named(tmp_path, cut, said):
    open_dataset("toy_photos", str(tmp_path))
    rewrite_as_tfrecord(tmp_path / "toy_photos" / "1.0.0")
    (path,) = (tmp_path / "toy_photos" / "1.0.0").glob("*train.tfrecord*")
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InputError, match=f"toy_photos-train.tfrecord.* is {said}"):
        open_dataset("toy_photos", str(tmp_path))


def test_another_format_is_refused_with_the_command_that_converts_it(tmp_path):
    open_dataset("toy_photos", str(tmp_path))
    state_format(tmp_path / "toy_photos" / "1.0.0", "riegeli")
    said = (
        r"prepared as riegeli; convert it: tfds convert_format --dataset_dir=\S*toy_photos/1.0.0 "
    )
    with pytest.raises(InputError, match=said + "--out_file_format=array_record"):
        open_dataset("toy_photos", str(tmp_path))


# ---- splits


def test_splits_are_expressions_of_tfds(tmp_path):
    splits = {"train": "train[:25%]", "validation": "validation+test", "test": "train[-2:]"}
    dataset = open_dataset("toy_photos", str(tmp_path), Selection(splits=splits))
    assert [len(s) for s in (dataset.train, dataset.validation, dataset.test)] == [10, 12, 2]
    assert dataset.notes == ()


def test_a_share_of_train_stands_in_for_validation(tmp_path):
    dataset = open_dataset("toy_train_alone", str(tmp_path), Selection(val_split=0.25))
    assert (len(dataset.train), len(dataset.validation)) == (30, 10)
    assert dataset.notes == ("no validation split: train[75%:] stands in for it (--val-split)",)
    assert dataset.train.labels().tolist() == labels(dataset.train)


@pytest.mark.parametrize(
    ("name", "selection", "said"),
    [
        ("toy_photos", Selection(splits={"train": "dev"}), "'dev' is no split of toy_photos"),
        ("toy_photos", Selection(splits={"train": "train[:x]"}), r"'train\[:x\]' is no split"),
        ("toy_photos", Selection(val_split=0.1), "has a validation split, validation: leave"),
        ("toy_photos", Selection(labels=("a.csv",)), "--labels does not apply to toy_photos"),
        (
            "toy_train_alone",
            Selection(splits={"train": "train[:50%]"}),
            "no validation split: add validation=NAME",
        ),
    ],
)
def test_splits_that_cannot_be_are_refused(tmp_path, name, selection, said):
    with pytest.raises(InputError, match=said):
        open_dataset(name, str(tmp_path), selection)


def test_the_log_level_of_others_is_left_alone(tmp_path, caplog):
    logger = logging.getLogger("absl")
    caplog.set_level(logging.DEBUG, "absl")
    open_dataset("toy_photos", str(tmp_path))
    assert logger.level == logging.DEBUG
