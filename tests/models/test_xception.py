"""Xception against timm, and its options."""

from functools import cache, partial

import jax
import numpy as np
import pytest
import timm
import torch
from timm.models.xception import Block
from torch import nn

from convert.rules import RULES
from flaxmobile import InputError, create_backbone, create_model
from flaxmobile.layers import ConvNorm
from flaxmobile.models.xception import SeparableConv, XceptionModule, modules
from tests.models.parity import (
    NUM_CLASSES,
    assert_block_agrees,
    assert_logits_agree,
    assert_training_step_agrees,
    block,
    published,
)
from tests.networks import abstract

RULE = RULES["timm", "xception"]
DOUBLE = {"unit": partial(ConvNorm, dtype=np.float64), "dtype": np.float64}


@cache
def small():
    """With one module in the middle flow: timm's block4, which its block12 then follows."""
    network = timm.create_model("legacy_xception", num_classes=NUM_CLASSES)
    for number in range(5, 12):
        setattr(network, f"block{number}", nn.Identity())
    rule = RULE._replace(
        own_options={**RULE.own_options, "middle_blocks": 1},
        modules=lambda model: [
            (ours, theirs.replace("block5.", "block12.")) for ours, theirs in RULE.modules(model)
        ],
    )
    return published(rule, "xception", network)


def block_name(path, start_with_relu):
    """timm's name inside a module: a list of ReLU, separable convolution and normalization."""
    if path.startswith("shortcut"):
        return "skip" if path.endswith("conv") else "skipbn"
    separable, *leaf = path.split("/")
    place = 3 * (int(separable[-1]) - 1) + start_with_relu
    if leaf == ["pointwise", "norm"]:
        return f"rep.{place + 1}"
    return f"rep.{place}.{'conv1' if leaf == ['depthwise'] else 'pointwise'}"


@pytest.mark.parametrize(
    ("channels", "features", "stride", "start_with_relu", "grow_first", "size"),
    [
        (16, (24, 24), 2, False, True, 12),
        (16, (24, 24), 2, True, True, 13),
        (24, (24, 24, 24), 1, True, True, 9),
        (24, (24, 32), 2, True, False, 9),
        (16, (24, 24), 1, True, True, 8),
    ],
)
def test_module_agrees(channels, features, stride, start_with_relu, grow_first, size):
    theirs = Block(channels, features[-1], len(features), stride, start_with_relu, grow_first)
    ours = XceptionModule(
        features,
        stride,
        start_with_relu,
        separable=partial(SeparableConv, **DOUBLE),
        unit=DOUBLE["unit"],
    )
    names = partial(block_name, start_with_relu=start_with_relu)
    pair = block(theirs, ours, channels, size, names)
    assert_block_agrees(pair, (2, size, size, channels))


class InceptionOrder(nn.Module):
    """1×1 first, then the channels by themselves: section 2's extreme Inception module."""

    def __init__(self, channels, features):
        super().__init__()
        self.pointwise = nn.Conv2d(channels, features, 1, bias=False)
        self.depthwise = nn.Module()
        self.depthwise.conv = nn.Conv2d(features, features, 3, 1, 1, groups=features, bias=False)
        self.depthwise.norm = nn.BatchNorm2d(features)

    def forward(self, x):
        return self.depthwise.norm(self.depthwise.conv(self.pointwise(x)))


def test_the_other_order_agrees():
    ours = SeparableConv(8, "pointwise_first", **DOUBLE)
    assert_block_agrees(block(InceptionOrder(5, 8), ours, 5), (2, 9, 9, 5))


def test_small_network_agrees_in_logits_and_a_training_step():
    assert_logits_agree(small(), 71)
    assert_training_step_agrees(small(), 75)


def test_whole_network_agrees_in_logits():
    network = timm.create_model("legacy_xception", num_classes=NUM_CLASSES)
    assert_logits_agree(published(RULE, "xception", network), 299, batch=1)


def test_the_middle_flow_repeats_as_often_as_asked():
    names = [module.name for module in modules(2)]
    assert names == ["entry1", "entry2", "entry3", "middle1", "middle2", "exit"]
    params = abstract(create_model("xception", middle_blocks=2, alpha=0.1))["params"]
    assert {"middle1", "middle2"} <= set(params)
    assert "middle3" not in params


def test_maps_of_a_backbone_have_the_sizes_of_figure_5():
    backbone = create_backbone("xception")
    images = jax.ShapeDtypeStruct((1, 299, 299, 3), np.float32)
    features, _ = jax.eval_shape(backbone.init_with_output, jax.random.key(0), images)
    assert {stride: f.shape[1] for stride, f in features.items()} == {
        2: 147, 4: 74, 8: 37, 16: 19, 32: 10,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": "depthwise"}, "unknown order 'depthwise'.*accepted: depthwise_first, pointwise"),
        ({"middle_blocks": -1}, "middle_blocks is -1; accepted: 0 or more"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        create_model("xception", **options)


def test_torch_is_the_reference_at_its_own_epsilon():
    assert RULE.options["norm_epsilon"] == timm.create_model("legacy_xception").bn1.eps
    assert torch.nn.BatchNorm2d(1).momentum == pytest.approx(
        1 - create_model("xception").norm_momentum
    )
