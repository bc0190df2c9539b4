"""MobileNet V2 against torchvision: blocks, logits, training steps."""

from functools import cache, partial

import jax
import numpy as np
import pytest
import torch
from torchvision.models import mobilenet_v2

from convert.rules import RULES
from flaxmobile.layers import ConvNorm, round_channels
from flaxmobile.models.mobilenet_v2 import STAGES, InvertedResidual
from tests.models.parity import (
    NUM_CLASSES,
    assert_all_close,
    assert_block_agrees,
    assert_logits_agree,
    assert_training_step_agrees,
    batch_of,
    block,
    double,
    published,
    shifted_depthwise,
    statistics_of,
    to_torch,
)
from tests.xla import THOROUGH

every_width = pytest.mark.parametrize(
    ("alpha", "size"), [(0.35, 96), (0.5, 96), (1.0, 224), (1.4, 96)]
)


@cache
def pair(alpha):
    network = mobilenet_v2(width_mult=alpha, num_classes=NUM_CLASSES, dropout=0.0)
    return published(RULES["torchvision", "mobilenet_v2"], "mobilenet_v2", network, alpha)


# Where a block of table 2 stands in torchvision's list, by our name of it.
POSITIONS = {
    f"stage{number}_block{block}": 1 + sum(s.blocks for s in STAGES[: number - 1]) + block - 1
    for number, stage in enumerate(STAGES, start=1)
    for block in range(1, stage.blocks + 1)
}


def block_name(path, expansion):
    """torchvision's name inside a block: a list of layers, of which the last two are the unit's."""
    unit, leaf = path.split("/")
    layers = ["depthwise"] if expansion == 1 else ["expand", "depthwise"]
    if unit == "project":
        return f"conv.{len(layers) + (leaf == 'norm')}"
    return f"conv.{layers.index(unit)}.{0 if leaf == 'conv' else 1}"


@pytest.mark.parametrize(
    ("alpha", "name", "stride", "shortcut", "size"),
    [
        (0.35, "stage1_block1", 1, False, 12),  # expansion 1
        (0.25, "stage1_block1", 1, True, 12),  # expansion 1, as many channels out as in
        (0.35, "stage2_block1", 2, False, 12),
        (0.35, "stage2_block1", 2, False, 13),
        (0.25, "stage2_block1", 2, False, 12),  # no shortcut, though as many channels out as in
        (0.35, "stage2_block2", 1, True, 12),
        (0.35, "stage5_block1", 1, False, 12),
        (1.0, "stage7_block1", 1, False, 7),
    ],
)
def test_block_agrees(alpha, name, stride, shortcut, size):
    stage = STAGES[int(name[5]) - 1]
    theirs = mobilenet_v2(width_mult=alpha).features[POSITIONS[name]]
    assert theirs.stride == stride
    assert theirs.use_res_connect == shortcut
    ours = InvertedResidual(
        round_channels(stage.channels * alpha),
        stage.expansion,
        stride,
        unit=partial(ConvNorm, dtype=np.float64),
    )
    channels = theirs.conv[0][0].in_channels
    names = partial(block_name, expansion=stage.expansion)
    assert_block_agrees(block(theirs, ours, channels, names=names), (4, size, size, channels))


@every_width
def test_logits_agree(alpha, size):
    assert_logits_agree(pair(alpha), size)


@pytest.mark.parametrize(("alpha", "size"), [(0.35, 64), (0.5, 64), (1.0, 224), (1.4, 64)])
def test_training_step_agrees(alpha, size):
    assert_training_step_agrees(pair(alpha), size)


@pytest.mark.parametrize(("alpha", "size"), [(0.35, 96), (1.4, 224)])
def test_statistics_in_float32_agree_with_torchs_in_float64(alpha, size):
    """torch's own float32 ones are off by up to 1.1e-5."""
    images, _ = batch_of(size, 2, np.float32)
    network = double(pair(alpha).torch).train()
    with torch.no_grad():
        network(to_torch(images.astype(np.float64)))
    _, model, variables, back = pair(alpha)
    forward = jax.jit(
        partial(model.apply, train=True, mutable=["batch_stats"]), compiler_options=THOROUGH
    )
    _, updates = forward(variables, images)
    assert_all_close(back({**variables, **updates}), statistics_of(network), 1e-5)


def test_the_reference_depthwise_is_torchs_own():
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(6, 12, (3, 5), 2, 1, groups=6, dilation=2).double()
    x = torch.randn(2, 6, 13, 14, dtype=torch.float64, requires_grad=True)
    results = []
    for form in (conv, partial(shifted_depthwise, conv)):
        y = form(x)
        results.append([y, *torch.autograd.grad((y**2).sum(), (x, conv.weight))])
    for own, shifted in zip(*results, strict=True):
        assert torch.allclose(own, shifted, rtol=0, atol=1e-12)


def test_the_comparison_sees_a_wrong_momentum():
    wrong = pair(0.35).flax.clone(norm_momentum=0.99)
    with pytest.raises(AssertionError, match="running_mean differs"):
        assert_training_step_agrees(pair(0.35)._replace(flax=wrong), 64)
