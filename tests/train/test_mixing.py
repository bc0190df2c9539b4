"""Mixup and cutmix against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from train.mixing import Mixing

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 16, 12, 3)).astype(np.uint8)
TARGETS = np.eye(4, dtype=np.float32)
NEIGHBOUR = [1, 0, 3, 2]
KEYS = jax.random.split(jax.random.key(0), 400)


def mix(mixing, keys=KEYS):
    return jax.jit(jax.vmap(lambda key: mixing(key, PIXELS, TARGETS)))(keys)


def shares(targets):
    """Each image's own share, by the targets [keys, 4, 4]."""
    targets = np.asarray(targets)
    np.testing.assert_allclose(targets.sum(-1), 1, rtol=1e-6)
    return targets[:, range(4), range(4)]


def test_mixup_is_the_sum_of_two_images_and_of_their_targets():
    pixels, targets = mix(Mixing(mixup=0.2), KEYS[:20])
    share = shares(targets)
    assert (share == share[:, :1]).all()  # one share a step
    share = share[:, :, None, None, None]
    expected = share * PIXELS + (1 - share) * PIXELS[NEIGHBOUR]
    np.testing.assert_allclose(pixels, expected, atol=1e-3)


def test_mixups_shares_have_the_moments_of_the_beta_distribution():
    share = shares(mix(Mixing(mixup=0.2))[1])[:, 0]
    assert share.mean() == pytest.approx(0.5, abs=0.06)
    assert share.var() == pytest.approx(1 / (4 * (2 * 0.2 + 1)), abs=0.02)


def test_cutmix_takes_a_box_of_the_neighbour_and_its_area_from_the_target():
    pixels, targets = mix(Mixing(cutmix=1.0))
    pixels, share = np.asarray(pixels), shares(targets)
    other = (pixels == PIXELS[NEIGHBOUR]).all(-1)
    assert (other | (pixels == PIXELS).all(-1)).all()
    np.testing.assert_allclose(1 - other.mean((2, 3)), share, atol=0.02)  # some pixels are equal
    for box in other[:20, 0]:
        rows, columns = box.any(1), box.any(0)
        np.testing.assert_array_equal(box, np.outer(rows, columns))
        assert np.abs(np.diff(np.flatnonzero(rows))).max(initial=1) == 1


def test_cutmixs_areas_have_torchvisions_mean():
    """The box is clipped by the image's edges, so the mean is above one half."""
    torch.manual_seed(0)
    cutmix = v2.CutMix(num_classes=4)
    images = torch.tensor(PIXELS).permute(0, 3, 1, 2)
    theirs = [float(cutmix(images, torch.arange(4))[1][0, 0]) for _ in range(400)]
    ours = shares(mix(Mixing(cutmix=1.0))[1])[:, 0]
    assert ours.mean() == pytest.approx(np.mean(theirs), abs=0.06)
    assert ours.std() == pytest.approx(np.std(theirs), abs=0.06)


def test_of_both_each_step_takes_one():
    pixels, _ = mix(Mixing(0.5, 1.0))
    whole = (np.asarray(pixels) == np.round(pixels)).all((1, 2, 3, 4))  # cutmix mixes no values
    assert 0.4 < whole.mean() < 0.6


def test_without_either_nothing_changes():
    pixels, targets = Mixing()(KEYS[0], PIXELS, jnp.asarray(TARGETS))
    np.testing.assert_array_equal(pixels, PIXELS)
    np.testing.assert_array_equal(targets, TARGETS)
