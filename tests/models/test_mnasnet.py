"""MnasNet: torchvision's table, and every block against torchvision's."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from torchvision.models import mnasnet

from convert.rules import RULES
from flaxmobile import create_backbone, create_model
from flaxmobile.layers import ConvNorm
from flaxmobile.models.mnasnet import MBConv
from tests.models.parity import (
    NUM_CLASSES,
    assert_block_agrees,
    assert_logits_agree,
    assert_training_step_agrees,
    block,
    published,
)
from tests.networks import abstract, numbered_blocks

RULE = RULES["torchvision", "mnasnet"]
TABLE = [  # torchvision: expansion, kernel, channels, blocks, stride
    (1, 3, 16, 1, 1),
    (3, 3, 24, 3, 2),
    (3, 5, 40, 3, 2),
    (6, 5, 80, 3, 2),
    (6, 3, 96, 2, 1),
    (6, 5, 192, 4, 2),
    (6, 3, 320, 1, 1),
]


@cache
def pair(alpha):
    network = mnasnet.MNASNet(alpha, num_classes=NUM_CLASSES, dropout=0.0)
    return published(RULE, "mnasnet", network, alpha)


def block_name(path):
    """torchvision's name inside a block: one flat list."""
    unit, leaf = path.split("/")
    index = {"expand": 0, "depthwise": 3, "project": 6}[unit] + (leaf == "norm")
    return f"layers.{index}"


@pytest.mark.parametrize(
    ("channels", "features", "kernel", "stride", "expansion"),
    [(8, 8, 3, 1, 3), (8, 8, 5, 1, 6), (8, 8, 3, 2, 3), (8, 12, 5, 2, 6), (8, 12, 3, 1, 6)],
)
def test_block_agrees(channels, features, kernel, stride, expansion):
    theirs = mnasnet._InvertedResidual(
        channels, features, kernel, stride, expansion, bn_momentum=1 - 0.9997
    )
    ours = MBConv(
        features,
        expansion,
        kernel,
        stride=stride,
        unit=partial(ConvNorm, norm_momentum=0.9997, dtype=np.float64),
    )
    pair = block(theirs, ours, channels, names=block_name)
    assert_block_agrees(pair, (3, 11, 11, channels))


@pytest.mark.parametrize(
    ("alpha", "size"),
    [
        (0.25, 65),  # the first block has as many channels out as in, and no shortcut
        (0.75, 64),
    ],
)
def test_logits_agree(alpha, size):
    assert_logits_agree(pair(alpha), size)


def test_logits_agree_at_full_size():
    assert_logits_agree(pair(1.0), 224, batch=1)


def test_training_step_agrees():
    assert_training_step_agrees(pair(0.25), 64)


def test_network_is_torchvisions_table():
    found = {
        place: (b.expansion, b.kernel_size, b.features, b.stride, b.dilation, b.shortcut)
        for place, b in numbered_blocks(create_model("mnasnet")).items()
    }
    assert found == {
        (stage, block): (t, k, c, s if block == 1 else 1, 1, t > 1 and (s == 1 or block > 1))
        for stage, (t, k, c, n, s) in enumerate(TABLE, start=1)
        for block in range(1, n + 1)
    }


@pytest.mark.parametrize("alpha", [0.1, 0.33, 1.0, 1.3, 2.0])
def test_widths_are_torchvisions_and_the_last_layer_has_1280_channels_at_every_alpha(alpha):
    params = abstract(create_model("mnasnet", alpha=alpha))["params"]
    names = ["stem", *(f"stage{number}_block1" for number in range(1, 8))]
    kernels = [params[name].get("project", params[name])["conv"]["kernel"] for name in names]
    assert [kernel.shape[-1] for kernel in kernels] == mnasnet._get_depths(alpha)
    assert params["head"]["conv"]["kernel"].shape[-1] == 1280


def test_the_last_map_has_the_channels_of_the_last_stage():
    backbone = create_backbone("mnasnet")
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    features = jax.eval_shape(backbone.apply, abstract(backbone), images)
    channels = {stride: feature.shape[-1] for stride, feature in features.items()}
    assert channels == {2: 16, 4: 24, 8: 40, 16: 96, 32: 320}
    assert not {"head", "classifier"} & set(abstract(backbone)["params"])
