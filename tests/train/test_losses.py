"""Losses against torch's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn import functional

from flaxmobile import Preprocessing
from tests.train.tiny import Tiny
from train.losses import Loss, Teacher

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(6, 4)).astype(np.float32)
LABELS = np.array([0, 1, 2, 3, 0, 2], np.int32)


def torchs(targets=None):
    return torch.tensor(LOGITS), torch.tensor(LABELS if targets is None else targets).long()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy(smoothing):
    loss = Loss(label_smoothing=smoothing)
    given = loss(LOGITS, loss.targets(LABELS, 4, jnp.float32))
    expected = functional.cross_entropy(*torchs(), label_smoothing=smoothing)
    np.testing.assert_allclose(given, expected, rtol=1e-6)


@pytest.mark.parametrize("weights", [None, (0.5, 1.0, 2.0, 0.1)])
def test_binary_cross_entropy(weights):
    loss = Loss("bce", 0.1, weights)
    targets = np.asarray(loss.targets(LABELS, 4, jnp.float32))
    np.testing.assert_allclose(targets[0], [0.925, 0.025, 0.025, 0.025], rtol=1e-6)
    expected = functional.binary_cross_entropy_with_logits(
        torch.tensor(LOGITS),
        torch.tensor(targets),
        weight=None if weights is None else torch.tensor(weights),
    )
    np.testing.assert_allclose(loss(LOGITS, targets), expected, rtol=1e-6)


def test_weights_of_classes():
    loss = Loss(class_weights=(0.5, 1.0, 2.0, 0.1))
    given = loss(LOGITS, loss.targets(LABELS, 4, jnp.float32))
    weights = torch.tensor(loss.class_weights)
    expected = functional.cross_entropy(*torchs(), weight=weights, reduction="sum") / 6
    np.testing.assert_allclose(given, expected, rtol=1e-6)


def test_the_teachers_share_is_torchs_divergence():
    teacher = Teacher(Tiny(num_classes=4), Preprocessing(32), temperature=3.0, weight=0.25)
    other = RNG.normal(size=(6, 4)).astype(np.float32)
    divergence = functional.kl_div(
        functional.log_softmax(torch.tensor(LOGITS) / 3, 1),
        functional.log_softmax(torch.tensor(other) / 3, 1),
        log_target=True,
        reduction="batchmean",
    )
    given = teacher.blend(jnp.float32(2), LOGITS, other)
    np.testing.assert_allclose(given, 0.75 * 2 + 0.25 * 9 * float(divergence), rtol=1e-5)


def test_the_teacher_sees_images_of_its_own_size_and_range():
    teacher = Teacher(
        Tiny(num_classes=4), Preprocessing(48, mean=(0.0,) * 3, std=(0.5,) * 3), 1.0, 1.0
    )
    pixels = RNG.integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    variables = teacher.model.init(jax.random.key(0), jnp.zeros((1, 48, 48, 3)))
    resized = jax.image.resize(pixels.astype(np.float32), (2, 48, 48, 3), "linear")
    expected = teacher.model.apply(variables, resized / 255 / 0.5)
    np.testing.assert_allclose(teacher.logits(variables, pixels), expected, rtol=1e-4, atol=1e-5)
