"""Changes of colour have torchvision's distribution, and its pixels."""

import collections

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torchvision.transforms import ColorJitter as Reference

from train.data.jitter import ColorJitter

NAMES = ("Brightness", "Contrast", "Color", "Hue")
MOST = (0.4, 0.2, 1.5, 0.1)


def test_changes_are_distributed_like_those_of_torchvision():
    rng, jitter = np.random.default_rng(0), ColorJitter(*MOST)
    torch.manual_seed(0)
    reference = Reference(*MOST)
    limits = (reference.brightness, reference.contrast, reference.saturation, reference.hue)
    ours, theirs = collections.defaultdict(list), collections.defaultdict(list)
    orders = collections.Counter()
    for _ in range(2000):
        drawn = jitter.draw(rng)
        orders[tuple(name for name, _ in drawn)] += 1
        for name, change in drawn:
            ours[name].append(change)
        _, *factors = Reference.get_params(*limits)
        for name, factor in zip(NAMES, factors, strict=True):
            theirs[name].append(factor - (name != "Hue"))
    for name in NAMES:
        assert stats.ks_2samp(ours[name], theirs[name]).pvalue > 0.01
    assert len(orders) == 24
    assert stats.chisquare(list(orders.values())).pvalue > 0.001


@pytest.mark.parametrize("name", NAMES)
def test_each_change_has_the_pixels_of_torchvision(name):
    most = [limit if name == other else 0 for other, limit in zip(NAMES, MOST, strict=True)]
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8))
    ((_, change),) = ColorJitter(*most).draw(np.random.default_rng(1))
    point = change if name == "Hue" else 1 + change
    exact = [(point, point) if name == other else 0 for other in NAMES]
    result = np.asarray(ColorJitter(*most)(image, np.random.default_rng(1)))
    np.testing.assert_array_equal(result, Reference(*exact)(image))
    assert (result != np.asarray(image)).any()
