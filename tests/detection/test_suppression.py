from functools import partial

import jax
import numpy as np
import pytest
import torch
from torchvision.ops import boxes as box_ops

from flaxmobile.detection.suppression import CANDIDATES, select_objects
from tests.detection.scenes import random_boxes

select = jax.jit(partial(select_objects, max_objects=40))


def torchvisions(boxes, scores, score_threshold, iou_threshold, most):
    """What torchvision's SSD keeps of one image."""
    boxes, scores = torch.tensor(boxes), torch.tensor(scores)
    parts = []
    for label in range(1, scores.shape[1]):
        own = scores[:, label]
        own, places = own.topk(min(CANDIDATES, int((own > score_threshold).sum())))
        parts.append((boxes[places], own, torch.full_like(own, label)))
    boxes, scores, labels = (torch.cat(part) for part in zip(*parts, strict=True))
    kept = box_ops.batched_nms(boxes, scores, labels, iou_threshold)[:most]
    return boxes[kept].numpy(), labels[kept].numpy(), scores[kept].numpy()


@pytest.mark.parametrize(
    "thresholds",
    [
        {"score_threshold": 0.001, "iou_threshold": 0.55},
        {"score_threshold": 0.85, "iou_threshold": 0.55},
        {"score_threshold": 0.2, "iou_threshold": 0.1},
    ],
)
def test_objects_are_torchvisions(thresholds):
    boxes = np.stack([random_boxes(seed, 500) for seed in (0, 1)])
    scores = np.random.default_rng(2).uniform(0, 1, (2, 500, 4)).astype(np.float32)
    found = select(boxes, scores, **thresholds)
    for image in range(2):
        expected = torchvisions(boxes[image], scores[image], *thresholds.values(), 40)
        for part, wanted in zip(found, expected, strict=True):
            np.testing.assert_array_equal(part[image, : len(wanted)], wanted)
            assert not part[image, len(wanted) :].any()
        assert len(expected[0]) > 10


def test_fewer_boxes_than_objects_are_filled_with_zeros():
    found = select(random_boxes(0, 5)[None], np.full((1, 5, 2), 0.0005, np.float32))
    assert [part.shape for part in found] == [(1, 40, 4), (1, 40), (1, 40)]
    assert not any(part.any() for part in found)
