"""A detector's loss and findings, on outputs that are right by construction."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from flaxmobile.detection.boxes import encode_boxes, make_default_boxes
from train.tasks.detection_loss import DetectionLoss
from train.tasks.detections import Detections
from train.tasks.results import write_test

SIZE = (64, 64)
CLASSES = 3
DEFAULTS = make_default_boxes([(4, 4), (2, 2)], SIZE)
LOSS = DetectionLoss(DEFAULTS, SIZE)


@pytest.fixture
def objects():
    """An image with two objects, one with one that is ignored as well, and one with none."""
    boxes = np.zeros((3, 2, 4), np.float32)
    boxes[0] = [[2, 3, 20, 21], [30, 30, 60, 62]]
    boxes[1] = [[10, 10, 40, 40], [40, 2, 60, 20]]
    labels = np.array([[1, 2], [2, 1], [0, 0]], np.int32)
    ignored = np.array([[False, False], [False, True], [False, False]])
    return {"boxes": boxes, "labels": labels, "ignored": ignored}


def sure_outputs(objects):
    """The outputs of a detector that finds all objects, the ignored ones too."""
    n = len(objects["labels"])
    offsets = np.zeros((n, len(DEFAULTS), 4), np.float32)
    logits = np.zeros((n, len(DEFAULTS), CLASSES), np.float32)
    logits[..., 0] = 20
    for image, (boxes, labels) in enumerate(zip(objects["boxes"], objects["labels"], strict=True)):
        for box, label in zip(boxes[labels > 0], labels[labels > 0], strict=True):
            low, high = np.maximum(box[:2], DEFAULTS[:, :2]), np.minimum(box[2:], DEFAULTS[:, 2:])
            common = (high - low).clip(0).prod(1)
            area = (box[2:] - box[:2]).prod() + (DEFAULTS[:, 2:] - DEFAULTS[:, :2]).prod(1)
            overlap = common / (area - common)
            for place in {*np.flatnonzero(overlap >= 0.5), overlap.argmax()}:
                offsets[image, place] = encode_boxes(box, DEFAULTS[place])
                logits[image, place] = 20 * np.eye(CLASSES)[label]
    return {"offsets": jnp.asarray(offsets), "logits": jnp.asarray(logits)}


def judged(outputs, objects):
    found = {name: np.asarray(each) for name, each in LOSS.judge(outputs, objects).items()}
    return found.pop("loss"), found


def test_a_sure_detector_has_no_loss_and_finds_every_object(objects):
    outputs = sure_outputs(objects)
    losses, found = judged(outputs, objects)
    np.testing.assert_allclose(losses[[0, 2]], 0, atol=1e-4)
    assert losses[1] > 1  # it takes the ignored object for one
    boxes = found["boxes"][0][found["scores"][0] > 0.5]
    np.testing.assert_allclose(sorted(boxes.tolist()), objects["boxes"][0], atol=1e-3)
    result = Detections(np.arange(3), objects, found, losses, CLASSES, 0)
    assert result.means() == pytest.approx(
        {"map": 1, "map50": 1, "map75": 1, "loss": losses.mean()}
    )


def test_the_terms_add_up_to_the_loss(objects):
    outputs = {name: each + 0.3 for name, each in sure_outputs(objects).items()}
    targets = LOSS.targets(objects, CLASSES, jnp.float32)
    terms = LOSS.measure(outputs, targets)
    assert terms["offset_loss"] > 0.01
    assert LOSS(outputs, targets) == pytest.approx(sum(terms.values()))


def test_ignored_objects_are_as_if_they_were_not_there(objects):
    outputs = {name: each * 0.5 for name, each in sure_outputs(objects).items()}
    gone = {**objects, "labels": np.where(objects["ignored"], 0, objects["labels"])}
    assert LOSS(outputs, objects) == LOSS(outputs, {**gone, "ignored": objects["ignored"] & False})


def test_results_are_written_by_class(objects, tmp_path):
    losses, found = judged(sure_outputs(objects), objects)
    result = Detections(np.arange(3), objects, found, losses, CLASSES + 1, 4)
    path = tmp_path / "test.json"
    write_test(path, "test", result, ("__background__", "cat", "dog", "cow"))
    written = json.loads(path.read_text())
    assert (written["images"], written["unreadable"]) == (3, 4)
    assert written["map"] == pytest.approx(1)
    assert written["classes"] == {
        "cat": {"average_precision": pytest.approx(1), "objects": 1},
        "dog": {"average_precision": pytest.approx(1), "objects": 2},
        "cow": {"average_precision": None, "objects": 0},
    }
