"""Examples of detection: images and padded objects, in shapes that do not change."""

import numpy as np
import pytest

from flaxmobile.images import UnreadableImageError
from tests.train.data.objects.conftest import write_coco
from train.data.objects.annotations import Annotations
from train.data.objects.augment import PRESETS
from train.data.objects.folders import open_annotated
from train.data.objects.readers import AugmentedBoxes, PreparedBoxes
from train.data.records import Selection


@pytest.fixture
def record(tmp_path):
    """40×30 pixels: a cat of (4, 3, 24, 15), and a dog everywhere."""
    write_coco(tmp_path)
    return open_annotated(tmp_path, Selection()).train[0]


def ignoring(record, *ignored):
    return record._replace(label=record.label._replace(ignored=np.array(ignored)))


def test_an_evaluated_image_is_scaled_as_a_whole(record):
    reader = PreparedBoxes(size=80, objects=3)
    image, label = reader(ignoring(record, False, True))
    assert image.shape == (80, 80, 3) and image.dtype == np.uint8
    expected = [[8, 8, 48, 40], [0, 0, 80, 80], [0, 0, 0, 0]]
    np.testing.assert_allclose(label["boxes"], expected, atol=1e-5)
    assert label["labels"].tolist() == [1, 2, 0]
    assert label["ignored"].tolist() == [False, True, False]


def test_a_training_image_has_no_ignored_objects(record):
    reader = AugmentedBoxes(size=80, objects=2, augment=PRESETS["none"])
    rng = np.random.default_rng(0)
    _, label = reader(ignoring(record, True, False), rng)
    assert label["labels"].tolist() == [2, 0]
    assert not label["ignored"].any()


def test_shapes_and_types_are_those_of_a_blank(record):
    shapes = []
    prepared = PreparedBoxes(size=64, objects=5)
    augmented = AugmentedBoxes(size=64, objects=5, augment=PRESETS["ssd"])
    nothing = record._replace(label=Annotations.none(record.label.size))
    rng = np.random.default_rng(0)
    for image, label in (
        prepared.blank(), prepared(record), prepared(nothing), augmented(nothing, rng),
        *(augmented(record, rng) for _ in range(5)),
    ):  # fmt: skip
        arrays = {"image": image, **label}
        shapes.append({name: (each.shape, each.dtype) for name, each in arrays.items()})
    assert all(shape == shapes[0] for shape in shapes)


def test_an_image_of_another_size_than_its_boxes_say_is_unreadable(record):
    wrong = record._replace(label=record.label._replace(size=(30, 40)))
    with pytest.raises(UnreadableImageError, match=r"a\.jpg has 40×30 pixels, its boxes .* 30×40"):
        PreparedBoxes(size=64, objects=2)(wrong)
