"""Loss and evaluation of segmenters, against PyTorch and torchvision's reference."""

import jax
import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from train.data.masks.mask import IGNORED
from train.tasks.pixels import PixelLoss, PixelVerdicts, count_pixels, intersection_over_union

CLASSES = 5


@pytest.fixture(scope="module")
def given():
    """Logits, and masks of all classes with pixels of none."""
    rng = np.random.default_rng(0)
    masks = rng.integers(0, CLASSES + 1, (3, 6, 7)).astype(np.uint8)
    masks[masks == CLASSES] = IGNORED
    return rng.normal(size=(3, 6, 7, CLASSES)).astype(np.float32), masks


@pytest.mark.parametrize("weights", [None, (1.0, 0.5, 2.0, 0.0, 3.0)])
def test_the_loss_and_its_gradient_are_torchs(given, weights):
    logits, masks = given
    loss = PixelLoss(weights)
    value, gradient = jax.value_and_grad(loss)(logits, loss.targets(masks, CLASSES, np.float32))
    tensor = torch.tensor(logits).permute(0, 3, 1, 2).requires_grad_()
    expected = cross_entropy(
        tensor,
        torch.tensor(masks).long(),
        None if weights is None else torch.tensor(weights),
        ignore_index=IGNORED,
    )
    expected.backward()
    np.testing.assert_allclose(value, expected.item(), rtol=1e-6)
    np.testing.assert_allclose(gradient, tensor.grad.permute(0, 2, 3, 1), rtol=1e-5, atol=1e-8)


def test_a_batch_without_classes_has_no_loss(given):
    logits, masks = given
    value, gradient = jax.value_and_grad(PixelLoss())(logits, np.full_like(masks, IGNORED, int))
    assert value == 0
    assert not gradient.any()


def reference(target, prediction, classes):
    """The formulas of `ConfusionMatrix` in torchvision's references/segmentation/utils.py."""
    known = (target >= 0) & (target < classes)
    places = classes * target[known].to(torch.int64) + prediction[known]
    counts = torch.bincount(places, minlength=classes**2).reshape(classes, classes)
    h = counts.float()
    hits = torch.diag(h)
    return counts, hits.sum() / h.sum(), hits / (h.sum(1) + h.sum(0) - hits)


def test_the_numbers_are_those_of_torchvisions_confusion_matrix(given):
    logits, masks = given
    judged = {name: np.asarray(each) for name, each in jax.jit(PixelLoss().judge)(*given).items()}
    verdicts = PixelVerdicts(index=np.arange(3), unreadable=0, **judged)
    counts, accuracy, unions = reference(
        torch.tensor(masks), torch.tensor(logits).argmax(-1), CLASSES
    )
    np.testing.assert_array_equal(verdicts.counts(), counts)
    means = verdicts.means()
    assert means["miou"] == pytest.approx(unions.mean().item(), rel=1e-6)
    assert means["accuracy"] == pytest.approx(accuracy.item(), rel=1e-6)
    np.testing.assert_allclose(intersection_over_union(verdicts.counts()), unions, rtol=1e-6)
    measured = PixelLoss().measure(logits, masks)["accuracy"]
    assert float(measured) == pytest.approx(accuracy.item(), rel=1e-6)
    np.testing.assert_array_equal(judged["thumbnails"][:, 0], masks)
    np.testing.assert_array_equal(judged["thumbnails"][:, 1], logits.argmax(-1))


def test_a_class_that_is_neither_there_nor_predicted_does_not_count():
    counts = np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]])
    np.testing.assert_allclose(intersection_over_union(counts), [3 / 4, 4 / 5, np.nan])


def test_large_counts_are_exact():
    masks = np.zeros((2001, 2003), np.uint8)
    counts = np.asarray(count_pixels(masks, masks, 2))
    assert counts.tolist() == [[2001 * 2003, 0], [0, 0]]
