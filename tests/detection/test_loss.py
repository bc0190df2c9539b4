import jax
import numpy as np
import pytest
import torch
from torchvision.models.detection import _utils
from torchvision.models.detection.ssd import SSD
from torchvision.ops import boxes as box_ops

from flaxmobile.detection.boxes import make_default_boxes
from flaxmobile.detection.loss import match_boxes, ssd_loss
from tests.detection.scenes import random_boxes

DEFAULTS = make_default_boxes([(6, 8), (3, 4), (1, 1)], (120, 160))
LABELS = np.asarray([[3, 1, 1, 2], [2, 0, 0, 0], [0, 0, 0, 0]])


def objects():
    """Three images: with four objects, of which two share a default box; with one; with none."""
    boxes = np.stack([random_boxes(seed, 4) for seed in range(3)])
    boxes[0, 2] = boxes[0, 0] + 0.01
    boxes[LABELS == 0] = 0
    return boxes


def torchvisions_matches(boxes):
    if not len(boxes):
        return torch.full((len(DEFAULTS),), -1)
    quality = box_ops.box_iou(torch.tensor(boxes), torch.tensor(DEFAULTS))
    return _utils.SSDMatcher(0.5)(quality)


def test_matches_are_torchvisions():
    for boxes, labels in zip(objects(), LABELS, strict=True):
        expected = torchvisions_matches(boxes[labels > 0]).numpy()
        np.testing.assert_array_equal(jax.jit(match_boxes)(DEFAULTS, boxes, labels), expected)
        assert set(expected) >= set(range(int((labels > 0).sum()))) - {0}


def torchvisions_loss(outputs, boxes):
    """Losses and their gradients, by the outputs."""
    shell = SSD.__new__(SSD)
    torch.nn.Module.__init__(shell)
    shell.box_coder, shell.neg_to_pos_ratio = _utils.BoxCoder((10.0, 10.0, 5.0, 5.0)), 3
    theirs = {
        "bbox_regression": torch.tensor(outputs["offsets"], requires_grad=True),
        "cls_logits": torch.tensor(outputs["logits"], requires_grad=True),
    }
    own = [each[labels > 0] for each, labels in zip(boxes, LABELS, strict=True)]
    targets = [
        {"boxes": torch.tensor(each), "labels": torch.tensor(labels[labels > 0])}
        for each, labels in zip(own, LABELS, strict=True)
    ]
    matches = [torchvisions_matches(each) for each in own]
    losses = shell.compute_loss(targets, theirs, [torch.tensor(DEFAULTS)] * 3, matches)
    sum(losses.values()).backward()
    numbers = [losses["bbox_regression"].item(), losses["classification"].item()]
    return numbers, [each.grad.numpy() for each in theirs.values()]


@pytest.mark.parametrize("seed", [0, 1])
def test_losses_and_gradients_are_torchvisions(seed):
    rng, boxes, count = np.random.default_rng(seed), objects(), len(DEFAULTS)
    outputs = {
        "offsets": rng.normal(0, 3, (3, count, 4)).astype(np.float32),
        "logits": rng.normal(0, 1, (3, count, 4)).astype(np.float32),
    }
    expected, gradients = torchvisions_loss(outputs, boxes)

    def total(outputs):
        losses = ssd_loss(outputs, DEFAULTS, boxes, LABELS)
        return sum(losses), losses

    (_, losses), found = jax.jit(jax.value_and_grad(total, has_aux=True))(outputs)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    for own, wanted in zip(found.values(), gradients[::-1], strict=True):  # in JAX's order of keys
        np.testing.assert_allclose(own, wanted, rtol=1e-4, atol=1e-6)


def test_images_without_objects_have_no_loss():
    outputs = {"offsets": np.ones((1, len(DEFAULTS), 4)), "logits": np.ones((1, len(DEFAULTS), 3))}
    losses = ssd_loss(outputs, DEFAULTS, np.zeros((1, 2, 4)), np.zeros((1, 2), int))
    assert losses == (0, 0)
