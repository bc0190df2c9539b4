import jax
import numpy as np
import pytest
import torch
from torchvision.models.detection import _utils
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import boxes as box_ops

from flaxmobile.detection.boxes import (
    clip_boxes,
    decode_boxes,
    encode_boxes,
    make_default_boxes,
    pairwise_overlap,
)
from tests.detection.scenes import random_boxes

CODER = _utils.BoxCoder((10.0, 10.0, 5.0, 5.0))


@pytest.mark.parametrize(
    ("maps", "image"),
    [
        ([(20, 20), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1)], (320, 320)),
        ([(12, 16), (6, 8), (3, 4), (2, 2), (1, 1), (1, 1)], (180, 241)),
    ],
)
def test_default_boxes_are_torchvisions(maps, image):
    generator = DefaultBoxGenerator([[2, 3]] * 6, min_ratio=0.2, max_ratio=0.95)
    features = [torch.zeros(1, 1, *size) for size in maps]
    (expected,) = generator(ImageList(torch.zeros(1, 3, *image), [image]), features)
    found = make_default_boxes(maps, image)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected.numpy())


def test_first_default_boxes_of_the_paper_are_three_per_cell():
    """create_ssd_anchors of TensorFlow's Object Detection API: (scale, ratio) of each box."""
    boxes = make_default_boxes([(2, 2), (1, 1)], (200, 200), "paper")
    sides = (boxes[:, 2:] - boxes[:, :2]) / 200
    scales, ratios = [0.1, 0.2, 0.2], [1, 2, 1 / 2]
    wanted = np.stack([scales * np.sqrt(ratios), scales / np.sqrt(ratios)], -1)
    np.testing.assert_allclose(sides[:12], np.tile(wanted, (4, 1)), rtol=1e-5)
    ratios = np.asarray([1, 2, 1 / 2, 3, 1 / 3])
    wanted = np.stack([0.95 * np.sqrt(ratios), 0.95 / np.sqrt(ratios)], -1)
    wanted = np.concatenate([wanted, np.full((1, 2), np.sqrt(0.95))])
    np.testing.assert_allclose(sides[12:], wanted.clip(0, 1), rtol=1e-5)


def test_offsets_are_torchvisions():
    boxes, defaults = random_boxes(0, 50), random_boxes(1, 50)
    expected = CODER.encode_single(torch.tensor(boxes), torch.tensor(defaults)).numpy()
    code = jax.jit(encode_boxes)(boxes, defaults)
    np.testing.assert_allclose(code, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(jax.jit(decode_boxes)(code, defaults), boxes, rtol=1e-4, atol=1e-3)


def test_decoded_boxes_are_torchvisions_and_bounded():
    defaults = random_boxes(0, 50)
    offsets = np.random.default_rng(2).normal(0, 10, (50, 4)).astype(np.float32)
    offsets[0, 2:] = 1e4
    expected = CODER.decode_single(torch.tensor(offsets), torch.tensor(defaults))
    found = decode_boxes(offsets, defaults)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-3)
    inside = box_ops.clip_boxes_to_image(expected, (90, 120)).numpy()
    np.testing.assert_allclose(clip_boxes(found, (90, 120)), inside, rtol=1e-5, atol=1e-3)


def test_overlap_is_intersection_over_union():
    boxes, others = random_boxes(0, 20), random_boxes(1, 30)
    others[3] = (5, 5, 5, 5)
    expected = box_ops.box_iou(torch.tensor(boxes), torch.tensor(others))
    found = pairwise_overlap(boxes, others)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-6)
    assert found.max() > 0.3
