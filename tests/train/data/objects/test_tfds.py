"""Data sets of TFDS with boxes, which are registered by defining them here."""

import io
import pickle
from typing import ClassVar

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from flaxmobile import InputError
from flaxmobile.images import UnreadableImageError
from train.data import Selection
from train.data.objects.opening import open_objects

BBOX = tfds.features.BBox(ymin=0.25, xmin=0.5, ymax=0.75, xmax=1.0)


def jpeg():
    file = io.BytesIO()
    Image.fromarray(np.zeros((40, 20, 3), np.uint8)).save(file, "jpeg")
    return file.getvalue()


class ToyBoxes(tfds.core.GeneratorBasedBuilder):
    """Images of 20×40 pixels; the number of their objects grows from none to three."""

    VERSION = tfds.core.Version("1.0.0")
    FEATURE = "objects"
    INSIDE: ClassVar = {
        "bbox": tfds.features.BBoxFeature(),
        "label": tfds.features.ClassLabel(names=["cat", "dog"]),
        "is_crowd": np.bool_,
    }
    SPLITS: ClassVar = {"train": 8, "validation": 4, "test": 2}

    def _info(self):
        objects = {self.FEATURE: tfds.features.Sequence(self.INSIDE)}
        features = {"image": tfds.features.Image(), **objects}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {
            split: self._generate_examples(count, split) for split, count in self.SPLITS.items()
        }

    def _generate_examples(self, count, split):
        for number in range(count):
            most = 0 if split == "test" else number % 4
            objects = [self.object(place) for place in range(most)]
            yield number, {"image": self.image(number), self.FEATURE: objects}

    def object(self, place):
        return {"bbox": BBOX, "label": place % 2, "is_crowd": place == 2}

    def image(self, number):
        return jpeg()


class ToyFaces(ToyBoxes):
    FEATURE = "faces"
    INSIDE: ClassVar = {"bbox": tfds.features.BBoxFeature(), "invalid": np.bool_}

    def object(self, place):
        return {"bbox": BBOX, "invalid": place == 0}


class ToyDamaged(ToyBoxes):
    def image(self, number):
        return b"not an image"


class ToyPoints(ToyBoxes):
    INSIDE: ClassVar = {"point": np.int32}

    def object(self, place):
        return {"point": place}


def test_boxes_of_tfds_become_pixels_and_labels_count_from_1(tmp_path):
    dataset = open_objects("toy_boxes", str(tmp_path), Selection())
    assert dataset.class_names == ("__background__", "cat", "dog")
    assert (len(dataset.train), len(dataset.validation), dataset.test) == (8, 4, None)
    assert dataset.notes == ("toy_boxes/test has no boxes and is not evaluated",)
    assert dataset.train.most_objects() == 3
    assert dataset.train.labels().sum(axis=0).tolist() == [0, 6, 4]
    found = [dataset.validation[index].label for index in range(4)]
    assert sorted(len(each.labels) for each in found) == [0, 1, 2, 3]
    full = max(found, key=lambda each: len(each.labels))
    assert full.size == (20, 40)
    assert full.boxes.tolist() == [[10, 10, 20, 30]] * 3
    assert full.labels.tolist() == [1, 2, 1]
    assert full.ignored.tolist() == [False, False, True]
    assert pickle.loads(pickle.dumps(dataset.train))[3].encoded == jpeg()


def test_objects_without_labels_are_of_one_class(tmp_path):
    dataset = open_objects("toy_faces", str(tmp_path), Selection())
    assert dataset.class_names == ("__background__", "face")
    full = max((r.label for r in map(dataset.train.__getitem__, range(8))), key=lambda a: len(a[2]))
    assert full.labels.tolist() == [1, 1, 1]
    assert full.ignored.tolist() == [True, False, False]


def test_a_damaged_image_can_be_left_out(tmp_path):
    source = open_objects("toy_damaged", str(tmp_path), Selection()).train
    with pytest.raises(UnreadableImageError, match="toy_damaged/train/0"):
        source[0]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("toy_points", "not one of images with boxes: it needs .* and has image, objects"),
        ("toy_box", r"did you mean 'toy_boxes'\?\); accepted: scenes, folder:PATH"),
    ],
)
def test_other_data_is_refused(tmp_path, name, said):
    with pytest.raises(InputError, match=said):
        open_objects(name, str(tmp_path), Selection())
