"""Boxes to erase have torchvision's distribution."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torchvision.transforms import RandomErasing as Reference

from train.data.erasing import RandomErasing

COLOR = (124, 116, 104)


@pytest.mark.parametrize(("width", "height"), [(64, 64), (40, 90)])
def test_boxes_are_distributed_like_those_of_torchvision(width, height):
    rng, erasing = np.random.default_rng(0), RandomErasing(1.0, COLOR)
    torch.manual_seed(0)
    ours = [erasing.draw(width, height, rng) for _ in range(3000)]
    theirs = []
    for _ in ours:
        top, left, h, w, _ = Reference.get_params(
            torch.empty(3, height, width), (0.02, 0.33), (0.3, 3.3), [0.0]
        )
        theirs.append(None if (h, w) == (height, width) else (left, top, left + w, top + h))
    missing = [sum(box is None for box in boxes) for boxes in (ours, theirs)]
    assert max(missing) < 30
    ours, theirs = (np.array([b for b in boxes if b], float) for boxes in (ours, theirs))
    for quantity in (
        lambda box: (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]),
        lambda box: (box[:, 2] - box[:, 0]) / (box[:, 3] - box[:, 1]),
        *(lambda box, side=side: box[:, side] for side in range(4)),
    ):
        assert stats.ks_2samp(quantity(ours), quantity(theirs)).pvalue > 0.01


def test_the_box_has_the_colour_and_the_rest_stays():
    image = Image.new("RGB", (30, 20), "white")
    erased = 0
    for seed in range(200):
        box = RandomErasing(0.3, COLOR).draw(30, 20, np.random.default_rng(seed))
        result = np.asarray(RandomErasing(0.3, COLOR)(image, np.random.default_rng(seed)))
        expected = np.full((20, 30, 3), 255)
        if box:
            left, top, right, bottom = box
            expected[top:bottom, left:right] = COLOR
            erased += 1
        np.testing.assert_array_equal(result, expected)
    assert 40 < erased < 80
    assert np.asarray(image).min() == 255
