import inspect
import json
from functools import cache, partial
from pathlib import Path

import keras
import numpy as np
import pytest
import timm
import torch

from convert.rules import RULES
from flaxmobile import create_model, summarize
from flaxmobile.errors import InputError
from flaxmobile.layers import ConvNorm
from flaxmobile.models.mobilenet_v1 import DepthwiseSeparable
from tests.models.parity import (
    NUM_CLASSES,
    assert_block_agrees,
    assert_logits_agree,
    assert_training_step_agrees,
    block,
    published,
)
from tests.networks import abstract

RULE = RULES["timm", "mobilenet_v1"]
ORACLES = json.loads((Path(__file__).parents[1] / "data" / "oracles.json").read_text())
TABLE = ORACLES["published"]["mobilenet_v1"]["rows"]


@cache
def pair(alpha):
    """timm's network; its builder takes any width only under this private name."""
    build = timm.models.efficientnet._gen_mobilenet_v1
    return published(
        RULE, "mobilenet_v1", build("mobilenetv1_100", alpha, num_classes=NUM_CLASSES), alpha
    )


@pytest.mark.parametrize("multiplier", [1, 3])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize("size", [8, 9])
def test_block_agrees_with_torch(size, stride, dilation, multiplier):
    """Figure 3 of the paper, right: 3×3 depthwise, BN, ReLU, 1×1, BN, ReLU."""
    wide = 6 * multiplier

    def unit(*sizes, **options):
        layers = {"conv": torch.nn.Conv2d(*sizes, bias=False, **options)}
        layers["norm"] = torch.nn.BatchNorm2d(sizes[1])
        return torch.nn.Sequential(torch.nn.ModuleDict(layers), torch.nn.ReLU6())

    class Block(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.depthwise = unit(
                6, wide, 3, stride=stride, padding=dilation, dilation=dilation, groups=6
            )
            self.pointwise = unit(wide, 10, 1)

        def forward(self, x):
            for layers, activation in (self.depthwise, self.pointwise):
                x = activation(layers["norm"](layers["conv"](x)))
            return x

    ours = DepthwiseSeparable(
        10, stride, dilation, multiplier, unit=partial(ConvNorm, dtype=np.float64)
    )
    names = "{0[0]}.0.{0[1]}".format
    reference = block(Block(), ours, 6, names=lambda path: names(path.split("/")))
    assert_block_agrees(reference, (3, size, size, 6))


@pytest.mark.parametrize("alpha", [0.35, 1.25])
def test_logits_agree_with_timm(alpha):
    assert_logits_agree(pair(alpha), 96)


def test_logits_agree_with_timm_at_full_size():
    assert_logits_agree(pair(1.0), 224, batch=1)


@pytest.mark.parametrize("alpha", [0.25, 0.5])
def test_training_step_agrees_with_timm(alpha):
    assert_training_step_agrees(pair(alpha), 64)


def test_the_comparison_sees_another_networks_normalization():
    wrong = pair(0.25).flax.clone(norm_epsilon=1e-3)
    with pytest.raises(AssertionError, match="logits differs"):
        assert_logits_agree(pair(0.25)._replace(flax=wrong), 64)


def test_kerass_choices_are_the_default():
    model, norm = create_model("v1"), keras.layers.BatchNormalization()
    assert (model.norm_epsilon, model.norm_momentum) == (norm.epsilon, norm.momentum)
    builder = inspect.signature(keras.applications.MobileNet).parameters
    assert model.dropout_rate == builder["dropout"].default
    assert model.depth_multiplier == builder["depth_multiplier"].default
    assert model.padding == "same"


@pytest.mark.parametrize(("whole", "widths"), [(False, (16, 24, 48)), (True, (11, 22, 44))])
def test_widths_are_multiples_of_8_or_keras_whole_numbers(whole, widths):
    params = abstract(create_model("v1", alpha=0.35, whole_widths=whole))["params"]
    kernels = [params["stem"], *(params[f"stage{n}_block1"]["pointwise"] for n in (1, 2))]
    assert tuple(unit["conv"]["kernel"].shape[-1] for unit in kernels) == widths


def test_network_is_table_1():
    rows = {row.path: row for row in summarize(create_model("v1")).rows}
    assert rows["stem/conv"].output == (112, 112, 32)
    found = [
        (row.output[0], row.output[2], rows[path.replace("depthwise", "pointwise")].output[2])
        for path, row in rows.items()
        if path.endswith("depthwise/conv")
    ]
    assert found == [  # output size, channels in, channels out
        (112, 32, 64),
        (56, 64, 128),
        (56, 128, 128),
        (28, 128, 256),
        (28, 256, 256),
        (14, 256, 512),
        *[(14, 512, 512)] * 5,
        (7, 512, 1024),
        (7, 1024, 1024),
    ]
    assert rows["classifier"].output == (1000,)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row["alpha"])
def test_counts_are_the_published_ones(row):
    """Whose parameters count three vectors per normalization; ours count two."""
    summary = summarize(create_model("v1", alpha=row["alpha"]))
    norms = sum(layer.params for layer in summary.rows if layer.kind == "norm")
    assert summary.params + norms / 2 == pytest.approx(row["params_m"] * 1e6, abs=5e3)
    if row["alpha"] != 0.75:  # these do not follow from the architecture
        assert summary.macs == pytest.approx(row["macs_m"]["224"] * 1e6, abs=1e6)


def test_most_of_the_work_is_in_1x1_convolutions():
    """Table 2 of the paper: 94.86 percent of the multiply-adds, 74.59 of the parameters."""
    summary = summarize(create_model("v1"))
    assert summary.pointwise_share == pytest.approx(0.9486, abs=5e-4)
    mixing = sum(row.params for row in summary.rows if row.kind == "conv 1x1")
    assert mixing / summary.params == pytest.approx(0.7459, abs=5e-3)


@pytest.mark.parametrize(
    ("alpha", "widths"),
    [
        (0.1, [8, 8, 16, 24, 48, 104]),
        (0.25, [8, 16, 32, 64, 128, 256]),
        (0.75, [24, 48, 96, 192, 384, 768]),
        (1.25, [40, 80, 160, 320, 640, 1280]),
    ],
)
def test_width_multiplier_scales_every_layer(alpha, widths):
    params = abstract(create_model("v1", alpha=alpha, num_classes=7))["params"]
    names = ["stem", *(f"stage{number}_block1" for number in range(1, 6))]
    kernels = [params[name].get("pointwise", params[name])["conv"]["kernel"] for name in names]
    assert [kernel.shape[-1] for kernel in kernels] == widths
    assert params["classifier"]["kernel"].shape == (widths[-1], 7)


def test_depth_multiplier_widens_the_depthwise_convolutions_alone():
    params = abstract(create_model("v1", alpha=0.25, depth_multiplier=2))["params"]
    for name, group in params.items():
        if name.startswith("stage"):
            wide = group["depthwise"]["conv"]["kernel"].shape[-1]
            assert group["pointwise"]["conv"]["kernel"].shape[2] == wide
    assert params["stage2_block1"]["depthwise"]["conv"]["kernel"].shape == (3, 3, 1, 32)
    assert params["stage2_block1"]["pointwise"]["conv"]["kernel"].shape == (1, 1, 32, 32)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth_multiplier": 0}, "depth_multiplier is 0; accepted: 1 or more"),
        ({"depth_multiplier": 0.5}, "depth_multiplier is 0.5; accepted: int"),
    ],
)
def test_other_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        create_model("v1", **options)
