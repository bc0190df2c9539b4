"""Inception-v4 and Inception-ResNet-v2 against timm, and their options."""

import importlib
from functools import cache, partial

import jax
import numpy as np
import pytest
import timm
from torch import nn

from convert.rules import RULES
from flaxmobile import InputError, create_backbone, create_model
from flaxmobile.layers import ConvNorm
from flaxmobile.layers.branches import Branches
from flaxmobile.models import inception_resnet_v2, inception_v4
from flaxmobile.models.inception_resnet_v2 import ResidualBranches
from tests.models.parity import (
    NUM_CLASSES,
    assert_block_agrees,
    assert_logits_agree,
    assert_training_step_agrees,
    block,
    published,
)

# `timm.models.inception_v4` is a function that hides the module.
their_v4 = importlib.import_module("timm.models.inception_v4")
their_resnet = importlib.import_module("timm.models.inception_resnet_v2")

CONV = partial(ConvNorm, norm_epsilon=1e-3, dtype=np.float64)
THEIRS = partial(
    timm.layers.ConvNormAct, padding=0, norm_kwargs={"eps": 1e-3}, act_kwargs={"inplace": True}
)
both = pytest.mark.parametrize("name", ["inception_v4", "inception_resnet_v2"])


def names_in(network, block, theirs):
    """The rule's names of the layers in a block, which timm calls `theirs`."""
    rule = RULES["timm", network]
    names = dict(rule.modules(rule.network()))
    return lambda path: names[f"{block}/{path}"].removeprefix(f"{theirs}.")


V4, RESNET = "inception_v4", "inception_resnet_v2"
BLOCKS = {  # ours -> network, timm's, and timm's name of it
    "mixed3a": (V4, their_v4.Mixed3a, "features.3", inception_v4.MIXED_3A, 64),
    "mixed4a": (V4, their_v4.Mixed4a, "features.4", inception_v4.MIXED_4A, 160),
    "mixed5a": (V4, their_v4.Mixed5a, "features.5", inception_v4.MIXED_5A, 192),
    "inception_a1": (V4, their_v4.InceptionA, "features.6", inception_v4.INCEPTION_A, 384),
    "reduction_a": (V4, their_v4.ReductionA, "features.10", inception_v4.REDUCTION_A, 384),
    "inception_b1": (V4, their_v4.InceptionB, "features.11", inception_v4.INCEPTION_B, 1024),
    "reduction_b": (V4, their_v4.ReductionB, "features.18", inception_v4.REDUCTION_B, 1024),
    "inception_c1": (V4, their_v4.InceptionC, "features.19", inception_v4.INCEPTION_C, 1536),
    "mixed5b": (RESNET, their_resnet.Mixed_5b, "mixed_5b", inception_resnet_v2.MIXED_5B, 192),
    "mixed6a": (RESNET, their_resnet.Mixed_6a, "mixed_6a", inception_resnet_v2.MIXED_6A, 320),
    "mixed7a": (RESNET, their_resnet.Mixed_7a, "mixed_7a", inception_resnet_v2.MIXED_7A, 1088),
}
RESIDUAL_BLOCKS = {
    "block35_1": (their_resnet.Block35, "repeat.0", inception_resnet_v2.BLOCK_35, 320, 0.17),
    "block17_1": (their_resnet.Block17, "repeat_1.0", inception_resnet_v2.BLOCK_17, 1088, 0.1),
    "block8_1": (their_resnet.Block8, "repeat_2.0", inception_resnet_v2.BLOCK_8, 2080, 0.2),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_block_agrees(name):
    network, build, theirs, branches, channels = BLOCKS[name]
    names = names_in(network, name, theirs)
    pair = block(build(THEIRS), Branches(branches, unit=CONV), channels, 7, names)
    assert_block_agrees(pair, (2, 7, 7, channels))


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("name", RESIDUAL_BLOCKS)
def test_residual_block_agrees(name, last):
    build, name_there, branches, channels, scale = RESIDUAL_BLOCKS[name]
    options = {"no_relu": True} if last and name == "block8_1" else {}
    activation = not options
    theirs = build(scale, conv_block=THEIRS, **options)
    ours = ResidualBranches(branches, scale, activation=activation, unit=CONV, dtype=np.float64)
    pair = block(theirs, ours, channels, 5, names_in(RESNET, name, name_there))
    assert_block_agrees(pair, (2, 5, 5, channels))


@cache
def small(name):
    """timm's network and ours with few repeats."""
    network = timm.create_model(name, num_classes=NUM_CLASSES)
    if name == "inception_v4":
        kept = [0, 1, 2, 3, 4, 5, 6, 10, 11, 18, 19]  # the stem, and one block of each kind
        network.features = nn.Sequential(*(network.features[i] for i in kept))
        repeats = (1, 1, 1)
    else:
        for part in (network.repeat, network.repeat_1, network.repeat_2):
            del part[1:]
        repeats = (1, 1, 2)
    rule = RULES["timm", name]
    return published(
        rule._replace(own_options={**rule.own_options, "repeats": repeats}), name, network
    )


@both
def test_small_network_agrees_in_logits_and_a_training_step(name):
    assert_logits_agree(small(name), 107)
    assert_training_step_agrees(small(name), 107)


@both
def test_whole_network_agrees_in_logits(name):
    network = timm.create_model(name, num_classes=NUM_CLASSES)
    assert_logits_agree(published(RULES["timm", name], name, network), 299, batch=1)


@pytest.mark.parametrize(
    ("name", "sizes", "channels"),
    [
        ("inception_v4", (147, 73, 35, 17, 8), (64, 160, 384, 1024, 1536)),
        ("inception_resnet_v2", (147, 71, 35, 17, 8), (64, 192, 320, 1088, 1536)),
    ],
)
def test_maps_of_a_backbone_have_the_sizes_of_the_figures(name, sizes, channels):
    images = jax.ShapeDtypeStruct((1, 299, 299, 3), np.float32)
    backbone = create_backbone(name)
    features, _ = jax.eval_shape(backbone.init_with_output, jax.random.key(0), images)
    expected = zip((2, 4, 8, 16, 32), sizes, channels, strict=True)
    assert {stride: f.shape for stride, f in features.items()} == {
        stride: (1, size, size, c) for stride, size, c in expected
    }


@both
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repeats": (1, 2)}, r"repeats is \[1, 2\]; accepted: three whole numbers above 0"),
        ({"repeats": (1, 0, 1)}, r"repeats is \[1, 0, 1\]; accepted"),
        ({"repeats": (1, 1.5, 1)}, r"repeats is \[1, 1.5, 1\]; accepted"),
    ],
)
def test_options_that_cannot_be_are_refused(name, options, message):
    with pytest.raises(InputError, match=message):
        create_model(name, **options)


def test_repeats_may_come_as_a_list_as_from_json():
    assert create_model("inception_v4", repeats=[1, 1, 1]).repeats == (1, 1, 1)
