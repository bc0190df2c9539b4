"""ShuffleNet V2: table 5 of the paper, and every unit against torchvision's."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from torchvision.models import shufflenetv2

from convert.rules import RULES
from flaxmobile import create_backbone, create_model
from flaxmobile.errors import InputError
from flaxmobile.layers import ConvNorm
from flaxmobile.models.shufflenet_v2 import ShuffleUnit
from tests.models.parity import (
    NUM_CLASSES,
    assert_block_agrees,
    assert_logits_agree,
    assert_training_step_agrees,
    block,
    published,
)
from tests.networks import abstract, randomised

RULE = RULES["torchvision", "shufflenet_v2"]
WIDTHS = {  # table 5: stages 2, 3, 4 and "Conv5"
    0.5: (48, 96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (244, 488, 976, 2048),
}


@cache
def pair(alpha):
    network = shufflenetv2.ShuffleNetV2([4, 8, 4], [24, *WIDTHS[alpha]], num_classes=NUM_CLASSES)
    return published(RULE, "shufflenet_v2", network, alpha)


def unit_name(path):
    """torchvision's name inside a unit: two lists."""
    layer, leaf = path.split("/")
    branch, index = {
        "shortcut_depthwise": ("branch1", 0),
        "shortcut_pointwise": ("branch1", 2),
        "pointwise1": ("branch2", 0),
        "depthwise": ("branch2", 3),
        "pointwise2": ("branch2", 5),
    }[layer]
    return f"{branch}.{index + (leaf == 'norm')}"


@pytest.mark.parametrize(("channels", "features", "stride"), [(12, 12, 1), (12, 12, 2), (6, 20, 2)])
def test_unit_agrees(channels, features, stride):
    theirs = shufflenetv2.InvertedResidual(channels, features, stride)
    ours = ShuffleUnit(features, stride, unit=partial(ConvNorm, dtype=np.float64))
    pair = block(theirs, ours, channels, names=unit_name)
    assert_block_agrees(pair, (3, 11, 11, channels))


@pytest.mark.parametrize(("alpha", "size"), [(0.5, 65), (1.0, 64), (1.5, 64), (2.0, 64)])
def test_logits_agree(alpha, size):
    assert_logits_agree(pair(alpha), size)


def test_logits_agree_at_full_size():
    assert_logits_agree(pair(1.0), 224, batch=1)


def test_training_step_agrees():
    assert_training_step_agrees(pair(0.5), 64)


@pytest.mark.parametrize("alpha", WIDTHS)
def test_widths_are_table_5s(alpha):
    params = abstract(create_model("shufflenet_v2", alpha=alpha))["params"]
    names = [
        f"stage{stage}_block{block}"
        for stage, n in ((2, 4), (3, 8), (4, 4))
        for block in range(1, n + 1)
    ]
    assert set(params) == {"stem", *names, "head", "classifier"}
    halves = [params[name]["pointwise2"]["conv"]["kernel"].shape[-1] for name in names]
    stages = WIDTHS[alpha][:3]
    expected = zip(stages, (4, 8, 4), strict=True)
    assert halves == [width // 2 for width, blocks in expected for _ in range(blocks)]
    assert params["head"]["conv"]["kernel"].shape[-1] == WIDTHS[alpha][3]


def test_a_unit_of_stride_1_passes_half_of_its_channels():
    """Channel 2i of the output is channel i of the input: the shuffle interleaves the halves."""
    unit = ShuffleUnit(8)
    x = np.random.default_rng(0).normal(size=(1, 5, 5, 8)).astype(np.float32)
    y = unit.apply(randomised(jax.eval_shape(unit.init, jax.random.key(0), x)), x)
    np.testing.assert_array_equal(y[..., ::2], x[..., :4])
    assert (np.asarray(y[..., 1::2]) >= 0).all()


def test_maps_have_the_channels_of_the_stages():
    backbone = create_backbone("shufflenet_v2")
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    features = jax.eval_shape(backbone.apply, abstract(backbone), images)
    channels = {stride: feature.shape[-1] for stride, feature in features.items()}
    assert channels == {2: 24, 4: 24, 8: 116, 16: 232, 32: 464}


@pytest.mark.parametrize("alpha", [0.25, 1.1])
def test_other_widths_are_refused(alpha):
    message = rf"alpha is {alpha}; accepted: 0\.5, 1\.0, 1\.5, 2\.0"
    with pytest.raises(InputError, match=message):
        create_model("shufflenet_v2", alpha=alpha)
