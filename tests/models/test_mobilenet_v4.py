"""MobileNet V4: every block, logits and a training step against timm's."""

from functools import cache, partial

import numpy as np
import pytest
import timm
from timm.models._efficientnet_blocks import EdgeResidual, UniversalInvertedResidual

from convert.rules import RULES
from flaxmobile import create_backbone, create_model
from flaxmobile.errors import InputError
from flaxmobile.layers import ConvNorm
from flaxmobile.models.mobilenet_v4 import FusedInvertedResidual, UniversalInvertedBottleneck
from tests.models.parity import (
    NUM_CLASSES,
    assert_block_agrees,
    assert_logits_agree,
    assert_training_step_agrees,
    block,
    published,
)

UNIT = partial(ConvNorm, dtype=np.float64)
CONVOLUTIONS = {
    "start": "dw_start",
    "expand": "pw_exp",
    "depthwise": "dw_mid",
    "project": "pw_proj",
}
FUSED = {"expand": ("conv_exp", "bn1"), "project": ("conv_pwl", "bn2")}


@cache
def pair(network, alpha):
    reference = timm.create_model(f"mobilenetv4_conv_{network}", num_classes=NUM_CLASSES)
    return published(RULES["timm", "mobilenet_v4"], "mobilenet_v4", reference, alpha)


def name_in_bottleneck(path):
    """timm's name of a layer of the universal block."""
    unit, leaf = path.split("/")
    return f"{CONVOLUTIONS[unit]}.{'bn' if leaf == 'norm' else 'conv'}"


def name_in_fused(path):
    """timm's name of a layer of the fused block."""
    unit, leaf = path.split("/")
    return FUSED[unit][leaf == "norm"]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("start", "middle"), [(3, 5), (0, 3), (5, 0), (0, 0)])
def test_universal_block_agrees(start, middle, stride):
    if stride == 2 and not start and not middle:
        stride, features = 1, 12  # nothing can shrink: no shortcut instead
    else:
        features = 8
    theirs = UniversalInvertedResidual(
        8, features, start, middle, stride=stride, exp_ratio=3, layer_scale_init_value=None
    )
    ours = UniversalInvertedBottleneck(features, 3, start, middle, stride, unit=UNIT)
    assert_block_agrees(block(theirs, ours, 8, names=name_in_bottleneck), (3, 11, 11, 8))


def test_fused_block_agrees():
    theirs = EdgeResidual(8, 16, stride=2, exp_ratio=4)
    ours = FusedInvertedResidual(16, 4, stride=2, unit=UNIT)
    assert_block_agrees(block(theirs, ours, 8, names=name_in_fused), (3, 11, 11, 8))


@pytest.mark.parametrize("size", [65, (64, 97)])
def test_logits_agree(size):
    assert_logits_agree(pair("small_035", 0.35), size)


def test_logits_agree_at_full_size():
    assert_logits_agree(pair("small", 1.0), 224, batch=1)


def test_training_step_agrees():
    assert_training_step_agrees(pair("small_035", 0.35), 64)


def test_maps_are_the_ends_of_the_stages():
    assert create_backbone("v4").channels == {2: 32, 4: 32, 8: 64, 16: 96, 32: 960}


def test_a_variant_that_the_paper_lacks_is_refused():
    with pytest.raises(
        InputError, match="unknown variant 'hybrid'; accepted: small, medium, large"
    ):
        create_model("v4", variant="hybrid")
