"""MobileNet V3 against torchvision, and against timm for the variants that it alone has."""

from functools import cache, partial

import numpy as np
import pytest
import torch
from timm.models import mobilenetv3 as of_timm
from torchvision.models import mobilenet_v3_large, mobilenet_v3_small, mobilenetv3

from convert import engine
from convert.reading import Reading
from convert.rules import RULES
from flaxmobile.errors import InputError
from flaxmobile.layers import ConvNorm, hard_swish, relu
from flaxmobile.models.mobilenet_v3 import SqueezedInvertedResidual
from tests.models.parity import (
    NUM_CLASSES,
    assert_block_agrees,
    assert_logits_agree,
    assert_training_step_agrees,
    block,
    published,
)

BUILDERS = {"large": mobilenet_v3_large, "small": mobilenet_v3_small}
TF = {"pad_type": "same", "bn_eps": 1e-3}


@cache
def of_torchvision(size, alpha, **options):
    network = BUILDERS[size](width_mult=alpha, num_classes=NUM_CLASSES, dropout=0.0, **options)
    name = f"mobilenet_v3_{size}"
    return published(RULES["torchvision", name], name, network, alpha)


@cache
def timms(size, alpha, tf=False, minimal=False):
    """timm's network; its builder takes any width only under this private name."""
    variant = f"mobilenetv3_{size}{'_minimal' if minimal else ''}"
    network = of_timm._gen_mobilenet_v3(
        variant, alpha, num_classes=NUM_CLASSES, **(TF if tf else {})
    )
    name = f"mobilenet_v3_{size}"
    return published(RULES["timm-tf" if tf else "timm", name], name, network, alpha)


def block_name(layers, path):
    """torchvision's name inside a block: a list of layers, each a list or squeeze-excite."""
    layer, leaf = path.split("/")
    within = {"conv": "0", "norm": "1", "reduce": "fc1", "expand": "fc2"}[leaf]
    return f"block.{layers.index(layer)}.{within}"


@pytest.mark.parametrize("activation", ["RE", "HS"])
@pytest.mark.parametrize(
    ("channels", "expanded", "features", "kernel", "stride", "squeeze", "dilation"),
    [
        (8, 8, 8, 3, 1, False, 1),  # large's first: nothing expanded
        (8, 8, 8, 3, 2, True, 1),  # small's first: no shortcut, though as many channels out as in
        (8, 24, 8, 3, 1, False, 1),
        (8, 40, 16, 5, 2, True, 1),
        (16, 40, 16, 5, 1, True, 1),
        (16, 40, 16, 5, 2, True, 2),  # the dilated last stage's first block: stride 1 after all
    ],
)
def test_block_agrees(channels, expanded, features, kernel, stride, squeeze, dilation, activation):
    sizes = (channels, kernel, expanded, features, squeeze, activation, stride, dilation)
    theirs = mobilenetv3.InvertedResidual(
        mobilenetv3.InvertedResidualConfig(*sizes, width_mult=1.0),
        partial(torch.nn.BatchNorm2d, eps=1e-3, momentum=0.01),
    )
    ours = SqueezedInvertedResidual(
        features,
        expanded,
        kernel,
        stride=stride if dilation == 1 else 1,
        dilation=dilation,
        squeeze=squeeze,
        shortcut=stride == 1,
        activation=hard_swish if activation == "HS" else relu,
        unit=partial(ConvNorm, norm_epsilon=1e-3, norm_momentum=0.99, dtype=np.float64),
        dtype=np.float64,
    )
    layers = ["expand"] * (expanded != channels) + ["depthwise"] + ["squeeze"] * squeeze
    names = partial(block_name, [*layers, "project"])
    assert_block_agrees(block(theirs, ours, channels, names=names), (3, 11, 11, channels))


@pytest.mark.parametrize(
    ("size", "alpha", "reduced"),
    [("large", 0.5, True), ("small", 0.75, False), ("small", 1.25, True)],
)
def test_logits_agree(size, alpha, reduced):
    assert_logits_agree(of_torchvision(size, alpha, reduced_tail=reduced), 64)


def test_logits_agree_at_full_size():
    assert_logits_agree(of_torchvision("large", 1.0), 224, batch=1)


def test_logits_of_a_dilated_last_stage_agree():
    """Same tensors as the strided network's; only the geometry differs."""
    pair = of_torchvision("small", 0.5, dilated=True)
    dilated = pair.flax.clone(dilated=True, output_stride=16)
    assert_logits_agree(pair._replace(flax=dilated), 64)
    atrous = pair.flax.clone(output_stride=16)
    with pytest.raises(AssertionError, match="logits differs"):
        assert_logits_agree(pair._replace(flax=atrous), 64)


@pytest.mark.parametrize(
    ("size", "alpha", "tf", "minimal"),
    [
        ("large", 0.75, True, False),
        ("small", 0.5, False, False),
        ("small", 1.0, True, True),
    ],
)
def test_logits_agree_with_timm(size, alpha, tf, minimal):
    pair = timms(size, alpha, tf, minimal)
    assert pair.flax.minimalistic == minimal
    assert_logits_agree(pair, 64)


@pytest.mark.parametrize(("size", "reduced"), [("large", True), ("small", False)])
def test_training_step_agrees(size, reduced):
    assert_training_step_agrees(of_torchvision(size, 0.35, reduced_tail=reduced), 64)


@pytest.mark.parametrize(("alpha", "tf", "minimal"), [(0.5, False, False), (0.25, True, True)])
def test_training_step_agrees_with_timm(alpha, tf, minimal):
    assert_training_step_agrees(timms("small", alpha, tf, minimal), 64)


def test_the_hidden_layer_is_a_convolution_in_timms_files():
    """Of exactly 1×1, or in older files a matrix: nothing else is reshaped."""
    pair = timms("small", 0.5)
    state = {name: tensor.numpy() for name, tensor in pair.torch.state_dict().items()}
    assert state["conv_head.weight"].shape == (1024, 288, 1, 1)
    assert pair.variables["params"]["hidden"]["kernel"].shape == (288, 1024)
    back = pair.back(pair.variables)
    assert list(back) == list(state)
    np.testing.assert_array_equal(back["conv_head.weight"], state["conv_head.weight"])
    rule = RULES["timm", "mobilenet_v3_small"]
    for shape in [(288, 1024), (1024, 1, 1, 288), (288, 1024, 1, 1)]:
        changed = {**state, "conv_head.weight": state["conv_head.weight"].reshape(shape)}
        with pytest.raises(InputError, match=r"conv_head\.weight is float32.*\[1024, 288, 1, 1\]"):
            engine.to_flax(Reading.of(rule, changed), "mobilenet_v3_small", {"alpha": 0.5})


def test_the_comparison_sees_the_other_origins_padding():
    pair = timms("small", 0.5)
    wrong = pair.flax.clone(padding="same")
    with pytest.raises(AssertionError, match="logits differs"):
        assert_logits_agree(pair._replace(flax=wrong), 64)
