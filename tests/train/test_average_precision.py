"""COCO's mean average precision, against numbers that can be worked out by hand."""

import sys

import numpy as np
import pytest

from flaxmobile.errors import InputError
from train.average_precision import average_precision

BOX, FAR = (0, 0, 100, 100), (200, 200, 300, 300)


def objects(*images):
    """Each image is a list of (box, label) or (box, label, ignored)."""
    most = max(1, *map(len, images))
    padded = {
        "boxes": np.zeros((len(images), most, 4), np.float32),
        "labels": np.zeros((len(images), most), np.int32),
        "ignored": np.zeros((len(images), most), bool),
    }
    for row, image in enumerate(images):
        for place, values in enumerate(image):
            for name, value in zip(padded, values, strict=False):
                padded[name][row, place] = value
    return padded


def found(*images):
    """Each image is a list of (box, label, score)."""
    padded = objects(*images)
    scores = [[values[2] for values in image] for image in images]
    del padded["ignored"]
    padded["scores"] = np.zeros(padded["labels"].shape, np.float32)
    for row, values in enumerate(scores):
        padded["scores"][row, : len(values)] = values
    return padded


def test_perfect_detections_have_1():
    truth = objects([(BOX, 1), (FAR, 2)], [], [(BOX, 2)])
    result = average_precision(truth, found([(FAR, 2, 0.4), (BOX, 1, 0.3)], [], [(BOX, 2, 0.9)]), 4)
    assert result[:3] == pytest.approx((1, 1, 1))
    np.testing.assert_allclose(result.classes, [np.nan, 1, 1, np.nan])


@pytest.mark.parametrize(
    ("right", "overlaps"),  # of two squares with the same height: the smaller over the larger width
    [(100, 10), (91, 9), (78, 6), (52, 1), (49, 0)],
)
def test_a_box_counts_at_each_overlap_that_it_reaches(right, overlaps):
    result = average_precision(objects([(BOX, 1)]), found([((0, 0, right, 100), 1, 0.5)]), 2)
    assert result.map == pytest.approx(overlaps / 10)
    assert result.map50 == pytest.approx(float(overlaps >= 1))
    assert result.map75 == pytest.approx(float(overlaps >= 6))


def test_a_better_wrong_box_halves_the_precision():
    truth = objects([(BOX, 1)])
    result = average_precision(truth, found([(FAR, 1, 0.9), (BOX, 1, 0.5)]), 2)
    assert result.map == pytest.approx(0.5)
    worse = average_precision(truth, found([(BOX, 1, 0.9), (FAR, 1, 0.5)]), 2)
    assert worse.map == pytest.approx(1)


def test_a_missed_object_is_missing_from_the_recall():
    result = average_precision(objects([(BOX, 1), (FAR, 1)]), found([(BOX, 1, 0.9)]), 2)
    assert result.map == pytest.approx(51 / 101)  # COCO samples the recall 101 times


def test_an_ignored_object_is_neither_right_nor_wrong():
    truth = objects([(BOX, 1), (FAR, 1, True)])
    for boxes in ([(BOX, 1, 0.5)], [(FAR, 1, 0.9), (BOX, 1, 0.5)]):
        assert average_precision(truth, found(boxes), 2).map == pytest.approx(1)


def test_without_detections_or_objects():
    assert average_precision(objects([(BOX, 1)]), found([]), 2).map == 0
    assert np.isnan(average_precision(objects([]), found([(BOX, 1, 0.5)]), 2).map)


def test_another_class_does_not_count():
    assert average_precision(objects([(BOX, 1)]), found([(BOX, 2, 0.5)]), 3).map == 0


def test_a_missing_library_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(InputError, match=r"pip install -e '.*\[detect\]'"):
        average_precision(objects([(BOX, 1)]), found([]), 2)
