"""The library's counts against those that independent implementations print."""

import json
import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import flaxmobile
from flaxmobile.models.mobilenet_v2 import STAGES
from flaxmobile.registry import get_spec
from tests.networks import random_variables, small_model

ORACLES = json.loads((Path(__file__).parent / "data" / "oracles.json").read_text())
COUNTS = [row for row in ORACLES["counts"] if row["model"] in flaxmobile.list_models()]
PUBLISHED = [
    (row, int(size), macs)
    for row in ORACLES["published"]["mobilenet_v2"]["rows"]
    for size, macs in row["macs_m"].items()
]


@cache
def _summary(name, options, image_size):
    return flaxmobile.summarize(flaxmobile.create_model(name, **dict(options)), image_size)


def _v2(alpha=1.0, image_size=224):
    return _summary("mobilenet_v2", (("alpha", alpha),), image_size)


def _label(row):
    options = " ".join(f"{k}={v}" for k, v in row["options"].items())
    return f"{row['model']} {options} at {row['image_size']}"


@pytest.mark.parametrize("row", COUNTS, ids=_label)
def test_counts_equal_the_oracles(row):
    summary = _summary(row["model"], tuple(row["options"].items()), row["image_size"])
    rounding = 5000 if "rounded to 0.01 M" in row["source"] else 0
    assert summary.params == row["params"]
    assert abs(summary.macs - row["macs"]) <= rounding


def test_every_registered_network_has_an_oracle():
    elsewhere = {"mobilenext", "inception_v2", "ic_conv", "blazeface"}  # tests of their own
    assert {row["model"] for row in COUNTS} | elsewhere >= set(flaxmobile.list_models())


@pytest.mark.parametrize(
    ("row", "image_size", "macs_m"), PUBLISHED, ids=lambda v: v["alpha"] if type(v) is dict else v
)
def test_counts_equal_the_published_table_of_v2(row, image_size, macs_m):
    summary = _v2(row["alpha"], image_size)
    assert math.floor(summary.macs / 1e6) == macs_m
    without_norm = sum(layer.params for layer in summary.rows if layer.kind != "norm")
    assert round(without_norm / 1e6, 2) == row["params_m"]


def test_share_of_pointwise_convolutions_is_all_that_the_others_leave():
    size, channels = 112, 32
    others = size**2 * 27 * 32 + 1280 * 1000  # stem and classifier
    for stage in STAGES:
        for block in range(stage.blocks):
            size //= stage.stride if block == 0 else 1
            others += size**2 * 9 * channels * stage.expansion
            channels = stage.channels
    assert _v2().pointwise_share == pytest.approx(1 - others / 300774272, abs=1e-12)


def test_rows_are_the_layers_in_order_with_their_shapes():
    rows = _v2().rows
    assert rows[0] == ("stem/conv", "conv 3x3", (112, 112, 32), 3 * 3 * 3 * 32, 112**2 * 27 * 32)
    assert rows[1] == ("stem/norm", "norm", (112, 112, 32), 64, 0)
    depthwise = next(row for row in rows if row.path == "stage2_block1/depthwise/conv")
    assert depthwise[1:] == ("depthwise 3x3", (56, 56, 96), 9 * 96, 56**2 * 9 * 96)
    assert rows[-1] == ("classifier", "dense", (1000,), 1281000, 1280000)


@pytest.mark.parametrize(("image_size", "last"), [(33, 2), (65, 3), (96, 3)])
def test_odd_sizes_round_up(image_size, last):
    rows = flaxmobile.summarize(small_model(num_classes=0), image_size).rows
    assert rows[-1].path == "head/norm"
    assert rows[-1].output == (last, last, 1280)


def test_backbone_is_counted_without_the_head():
    backbone = flaxmobile.create_backbone("v2", out_strides=(4, 8))
    paths = {row.path.split("/")[0] for row in flaxmobile.summarize(backbone, 64).rows}
    assert {"stem", "stage3_block3"} <= paths
    assert not paths & {"stage4_block1", "head", "classifier"}


def test_dilation_leaves_the_parameters_and_enlarges_the_maps():
    plain, dilated = (
        flaxmobile.summarize(small_model(output_stride=stride), 64) for stride in (32, 8)
    )
    assert dilated.params == plain.params
    assert dilated.rows[-2].output == (8, 8, 1280)
    assert plain.rows[-2].output == (2, 2, 1280)


def test_folded_network_does_the_same_multiply_adds_without_normalization():
    model = small_model()
    folded, _ = flaxmobile.fold_batch_norm(model, random_variables(model))
    plain, summary = flaxmobile.summarize(model, 64), flaxmobile.summarize(folded, 64)
    assert summary.macs == plain.macs
    assert "norm" not in {row.kind for row in summary.rows}
    channels = sum(row.output[-1] for row in plain.rows if row.kind == "norm")
    assert plain.params - summary.params == channels  # scale and bias became one bias


@pytest.mark.parametrize(
    ("name", "size", "heads"),
    [("inception_v1", 224, {"auxiliary1", "auxiliary2"}), ("inception_v3", 299, {"auxiliary"})],
)
def test_auxiliary_classifiers_are_parameters_that_do_no_multiply_adds(name, size, heads):
    plain, with_heads = (
        _summary(name, (("aux_logits", wanted),), size) for wanted in (False, True)
    )
    extra = [row for row in with_heads.rows if row.path.split("/")[0] in heads]
    assert {row.path.split("/")[0] for row in extra} == heads
    assert {row.macs for row in extra} == {0}
    assert all(row.params > 0 for row in extra)
    assert [row for row in with_heads.rows if row not in extra] == list(plain.rows)
    assert with_heads.params - plain.params == sum(row.params for row in extra)


def test_printed_table_has_a_line_per_layer_the_totals_and_the_share():
    summary = _v2(1.4)
    lines = str(summary).splitlines()
    blocks = [line for line in lines[2:-3] if len(line.split()) == 1]
    assert len(lines) == len(summary.rows) + len(blocks) + 5
    assert blocks[:2] == ["stage1_block1", "stage2_block1"]
    assert lines[0].split() == ["layer", "kind", "output", "params", "mult-adds", "share"]
    assert lines[2].split() == ["stem", "conv", "3x3", "112×112×48", "1,296", "16,257,024", "2.8%"]
    assert lines[5].startswith("  depthwise  ")
    assert lines[6].startswith("    norm  ")
    assert lines[-2].split() == ["total", "6,108,776", "582,195,824", "100.0%"]
    assert lines[-1] == "1×1 convolutions do 91.8% of the multiply-adds at 224×224"


@pytest.mark.parametrize("name", flaxmobile.list_models())
def test_printed_table_fits_80_columns(name):
    summary = _summary(name, (), get_spec(name).image_size)
    assert max(map(len, str(summary).splitlines())) <= 80


def test_json_has_the_totals_and_a_row_per_layer():
    values = json.loads(json.dumps(_v2(1.4).to_json()))
    assert (values["params"], values["macs"], values["image_size"]) == (6108776, 582195824, 224)
    assert values["pointwise_share"] == _v2(1.4).pointwise_share
    assert values["rows"][0] == {
        "path": "stem/conv",
        "kind": "conv 3x3",
        "output": [112, 112, 48],
        "params": 1296,
        "macs": 16257024,
    }
    assert sum(row["macs"] for row in values["rows"]) == values["macs"]


def test_too_small_an_image_is_refused():
    with pytest.raises(flaxmobile.InputError, match=r"\[1, 31, 31, 3\].*at least 32"):
        flaxmobile.summarize(small_model(), 31)


def test_a_name_is_summarized_like_its_network():
    assert flaxmobile.summarize("v2") == _v2()


def test_an_image_may_have_two_sides():
    wide = flaxmobile.summarize(small_model(), (64, np.int64(32)))
    assert (wide.image_size, wide.rows[0].output[:2]) == ((64, 32), (32, 16))
    assert str(wide).endswith("at 64×32")
    assert flaxmobile.summarize(small_model(), np.int64(32)).to_json()["image_size"] == 32


@pytest.mark.parametrize("size", [0, (64, -1), 64.0, "64", (64, 64, 3)])
def test_other_sizes_are_refused(size):
    with pytest.raises(flaxmobile.InputError, match=r"image_size is .*accepted: the side"):
        flaxmobile.summarize(small_model(), size)
