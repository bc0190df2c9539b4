"""BlazeFace's matching and loss, on outputs that are right by construction."""

import jax.numpy as jnp
import numpy as np
import pytest

from flaxmobile.detection import face_loss, make_anchors, make_matching_boxes
from train.tasks.detection_loss import FaceLoss

SIDE = 128
COUNTS = {8: 2, 16: 6}
DEFAULTS = make_matching_boxes(SIDE, COUNTS)
FACE = np.array([37, 45, 67, 80], np.float32)  # xmin, ymin, xmax, ymax


def targets(*faces):
    """An image with faces, and one with none."""
    boxes, labels = np.zeros((2, 2, 4), np.float32), np.zeros((2, 2), np.int32)
    for place, face in enumerate(faces):
        boxes[0, place], labels[0, place] = face, 1
    return {"boxes": boxes, "labels": labels, "ignored": np.zeros((2, 2), bool)}


def overlaps(face):
    common = (np.minimum(face[2:], DEFAULTS[:, 2:]) - np.maximum(face[:2], DEFAULTS[:, :2])).clip(0)
    areas = [(each[..., 2:] - each[..., :2]).prod(-1) for each in (face, DEFAULTS)]
    return common.prod(-1) / (sum(areas) - common.prod(-1))


def outputs(face, found):
    """A detector whose anchors `found`, of the first image, say this face in MediaPipe's terms."""
    boxes, scores = np.zeros((2, 896, 16), np.float32), np.full((2, 896), -20, np.float32)
    centre = (face[:2] + face[2:]) / 2
    boxes[0, found, :2] = centre - make_anchors(SIDE)[found, :2] * SIDE
    boxes[0, found, 2:4] = face[2:] - face[:2]
    scores[0, found] = 20
    return {"boxes": jnp.asarray(boxes), "scores": jnp.asarray(scores)}


def compare(given, *faces):
    wanted = targets(*faces)
    return face_loss(given, jnp.asarray(DEFAULTS), wanted["boxes"], wanted["labels"])


def test_anchors_have_the_sizes_of_mediapipes_options():
    sides = DEFAULTS[:, 2:] - DEFAULTS[:, :2]
    np.testing.assert_allclose(sides[:, 0], sides[:, 1], rtol=1e-5)
    np.testing.assert_allclose(sides[:2, 0] / SIDE, [0.1484375, 0.227593], rtol=1e-4)
    coarse = [0.348958, 0.437887, 0.549479, 0.641957, 0.75, 0.866025]
    np.testing.assert_allclose(sides[512:518, 0] / SIDE, coarse, rtol=1e-4)
    np.testing.assert_allclose(sides[-6:], sides[512:518], rtol=1e-5)
    middles = (DEFAULTS[:, 2:] + DEFAULTS[:, :2]) / 2
    np.testing.assert_allclose(middles, make_anchors(SIDE)[:, :2] * SIDE, atol=1e-4)


@pytest.mark.parametrize(
    "face", [FACE, np.array([58.2, 58.2, 68.2, 68.9], np.float32)], ids=["large", "small"]
)
def test_a_sure_detector_has_no_loss_and_finds_the_face(face):
    """A small face, which no anchor overlaps enough, has the anchor that overlaps it most."""
    shares = overlaps(face)
    found = np.flatnonzero((shares >= 0.35) | (shares == shares.max()))
    given = outputs(face, found)
    losses = compare(given, face)
    np.testing.assert_allclose(losses, 0, atol=1e-5)
    judged = FaceLoss(DEFAULTS, (SIDE, SIDE), COUNTS).judge(given, targets(face))
    assert (judged["scores"] > 0).sum(1).tolist() == [1, 0]
    assert judged["labels"][0, 0] == 1
    np.testing.assert_allclose(judged["boxes"][0, 0], face, atol=1e-3)


def test_losses_are_those_of_the_definition():
    """Undecided scores cost log 2 for each matched anchor and three others; a width 10 / side."""
    found = np.flatnonzero(overlaps(FACE) >= 0.35)
    assert len(found) > 3
    given = outputs(FACE, found)
    given["scores"] = jnp.zeros_like(given["scores"])
    given["boxes"] = given["boxes"].at[:, :, 2].add(1.0)  # pixel
    losses = compare(given, FACE)
    assert losses.classes == pytest.approx(4 * np.log(2), rel=1e-5)
    errors = 10 / (DEFAULTS[found, 2] - DEFAULTS[found, 0])
    assert losses.offsets == pytest.approx((errors**2 / 2).mean(), rel=1e-4)


def test_images_without_faces_cost_nothing():
    np.testing.assert_array_equal(compare(outputs(FACE, [])), 0)
