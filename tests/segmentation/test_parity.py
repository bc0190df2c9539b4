"""torchvision's segmenters and ours with the same numbers: logits and a training step."""

from functools import cache, partial

import jax
import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import segmentation

from convert.rules import RULES
from tests.models.parity import (
    assert_all_close,
    assert_close,
    assert_gradients_close,
    cast,
    double,
    gradients_of,
    our_step,
    published,
    statistics_of,
    to_torch,
    torch_loss,
)

CLASSES = 5
BUILDERS = {
    "lraspp": lambda **own: segmentation.lraspp_mobilenet_v3_large(**own),
    "deeplab_v3": lambda **own: segmentation.deeplabv3_mobilenet_v3_large(aux_loss=True, **own),
}


@cache
def pair(name):
    network = BUILDERS[name](weights=None, weights_backbone=None, num_classes=CLASSES)
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    found = published(RULES["torchvision", name], name, network)
    off = {"aux_dropout_rate": 0.0} if name == "deeplab_v3" else {}
    return found._replace(flax=found.flax.clone(**off))


def batch_of(height, width, count, dtype):
    rng = np.random.default_rng(height)
    images = rng.normal(size=(count, height, width, 3)).astype(np.float32)
    return images.astype(dtype), rng.integers(0, CLASSES, (count, height, width))


@pytest.mark.parametrize("size", [(97, 75), (64, 96)])
@pytest.mark.parametrize("name", BUILDERS)
def test_logits_agree(name, size):
    """In float64: in float32 networks of random weights amplify rounding."""
    both = pair(name)
    images, _ = batch_of(*size, 1, np.float64)
    with torch.no_grad():
        expected = double(both.torch)(to_torch(images))["out"]
    with jax.enable_x64(True):
        apply = jax.jit(both.flax.clone(dtype=np.float64).apply)
        found = apply(cast(both.variables, np.float64), images)
    assert_close(found, expected.permute(0, 2, 3, 1).numpy(), 1e-8, "logits")


@pytest.mark.parametrize("name", BUILDERS)
def test_training_step_agrees(name):
    """Loss, every gradient and statistic, in float64, with the auxiliary classifier's."""
    both = pair(name)
    images, labels = batch_of(33, 40, 2, np.float64)
    theirs = double(both.torch).train()
    weight = both.flax.aux_weight
    outputs = tuple(theirs(to_torch(images)).values())
    assert len(outputs) == (2 if weight else 1)
    expected = torch_loss(outputs, torch.tensor(labels), weight)
    expected.backward()
    with jax.enable_x64(True):
        model = both.flax.clone(dtype=np.float64)
        step = jax.jit(partial(our_step, model))
        loss, changes = step(cast(both.variables, np.float64), images, labels)
    found = both.back(changes)
    assert_close(loss, expected.item(), 1e-8, "loss")
    assert_all_close(found, statistics_of(theirs), 1e-8)
    assert_gradients_close(found, gradients_of(theirs), 1e-8)
