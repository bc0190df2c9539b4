"""Data sets of TFDS with masks, which are registered by defining them here."""

import io
import pickle
from typing import ClassVar

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from flaxmobile import InputError
from train.data import Selection
from train.data.identity import identify
from train.data.masks.mask import decode_pair
from train.data.masks.opening import open_masks

VALUES = [0, 1, 2, 255]


def encode(values, kind="png"):
    file = io.BytesIO()
    Image.fromarray(np.asarray(values, np.uint8)).save(file, kind)
    return file.getvalue()


class ToyMasks(tfds.core.GeneratorBasedBuilder):
    """Images of 4×6 pixels; the columns of a mask are VALUES."""

    VERSION = tfds.core.Version("1.0.0")
    MASK, FEATURE = "segmentation_mask", tfds.features.Image(shape=(None, None, 1))
    OTHERS: ClassVar = {"label": tfds.features.ClassLabel(num_classes=2)}
    COLUMNS: ClassVar = VALUES
    SPLITS: ClassVar = {"train": 20, "test": 3}

    def _info(self):
        image = {"image": tfds.features.Image()}
        features = {**image, **({self.MASK: self.FEATURE} if self.MASK else {}), **self.OTHERS}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(count) for split, count in self.SPLITS.items()}

    def _generate_examples(self, count):
        for number in range(count):
            example = {"image": encode(np.full((6, 4, 3), number), "jpeg")}
            if self.MASK:
                example[self.MASK] = encode([self.COLUMNS] * 6)
            yield number, {**example, **dict.fromkeys(self.OTHERS, 1)}


class ToyNamedMasks(ToyMasks):
    MASK, FEATURE = "parts", tfds.features.LabeledImage(labels=["sky", "road", "car"])


class OxfordIiitPet(ToyMasks):
    """The features and values of TFDS's own."""

    COLUMNS: ClassVar = [1, 2, 3, 3]


class ToyNoMasks(ToyMasks):
    MASK = None


class ToyColours(ToyMasks):
    COLUMNS: ClassVar = [[0, 0, 9]] * 4


def masks_of(source, classes):
    return [np.asarray(decode_pair(source[i], classes)[1])[0].tolist() for i in range(len(source))]


@pytest.mark.parametrize(
    ("name", "label_map", "names", "classes"),
    [
        ("toy_masks", (), ("0", "1", "2"), VALUES),
        (
            "toy_masks",
            ("1=cat", "0=other", "2=other", "255=ignore"),
            ("cat", "other"),
            [1, 0, 1, 255],
        ),
        ("toy_masks", ("0=ignore", "2=b", "1=a", "255=c"), ("b", "a", "c"), [255, 1, 0, 2]),
        ("toy_named_masks", (), ("sky", "road", "car"), VALUES),
        (
            "toy_named_masks",
            ("0=x", "1=y", "2=x", "255=ignore"),
            ("x", "y"),
            [0, 1, 0, 255],
        ),
        ("oxford_iiit_pet", (), ("pet", "background"), [0, 1, 255, 255]),
    ],
)
def test_masks_of_tfds_are_read_with_their_label_map(tmp_path, name, label_map, names, classes):
    dataset = open_masks(name, str(tmp_path), Selection(label_map=label_map))
    assert dataset.class_names == names
    assert [len(s) for s in (dataset.train, dataset.validation, dataset.test)] == [18, 2, 3]
    assert masks_of(dataset.test, len(names)) == [classes] * 3
    assert set(dataset.validation.sizes()) == {(4, 6)}
    notes = " ".join(dataset.notes)
    assert ("by the largest value in the training masks" in notes) == (names[0] == "0")
    assert "masks: the feature" in notes
    stored = pickle.loads(pickle.dumps(dataset.train))
    assert stored[4] == dataset.train[4]
    assert dataset.train[4].name == f"{name}/train[:90%]/4"


def test_another_label_map_is_other_data(tmp_path):
    maps = (("0=a", "1=b", "2=b"), ("0=b", "1=a", "2=b"))
    first, second = (
        identify(open_masks("toy_masks", str(tmp_path), Selection(label_map=words)))
        for words in maps
    )
    assert first["train"] != second["train"]


def test_a_value_that_the_label_map_leaves_out_is_named(tmp_path):
    for label_map, value in ((("0=a", "1=b"), 2), (("0=a", "1=b", "2=b"), 255)):
        dataset = open_masks("toy_masks", str(tmp_path), Selection(label_map=label_map))
        said = rf"test/0/segmentation_mask has the value {value}, .* add {value}=NAME"
        with pytest.raises(InputError, match=said):
            masks_of(dataset.test, 2)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("toy_no_masks", r"'toy_no_masks' is not one of images with masks: .* has image, label$"),
        (
            "toy_mask",
            r"unknown dataset 'toy_mask' \(did you mean 'toy_masks'\?\); accepted: scenes",
        ),
        ("./street", r"is the name of no data set; for a folder write folder:\./street"),
        (
            "coco:/street",
            r"coco:/street is the name of no data set; for a folder write folder:/street",
        ),
        ("digits", r"accepted for this --task: scenes, folder:PATH, or one of TFDS"),
        ("packed:street", r"is packed:street; accepted for this --task: scenes"),
        ("toy_colours", r"train\[:90%\]/0/segmentation_mask has colours"),
    ],
)
def test_other_data_is_refused(tmp_path, name, said):
    with pytest.raises(InputError, match=said):
        open_masks(name, str(tmp_path), Selection())
