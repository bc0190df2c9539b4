"""What timm says about its weights travels with them, and its two flavours are not mixed up."""

import math

import pytest
import timm
import torch

from convert.__main__ import main
from convert.rules import RULES
from flaxmobile import load_metadata, load_weights
from tests.convert.rules import facts_of

FILES = [
    (key, file)
    for key, rule in RULES.items()
    if key[0] in ("timm", "timm-tf")
    for file in rule.published
]


def resize_size(config):
    return math.floor(config["input_size"][1] / config["crop_pct"])


@pytest.mark.parametrize(("rule", "file"), FILES, ids=lambda each: getattr(each, "sha256", ""))
def test_a_published_file_has_timms_preset(rule, file):
    config = timm.get_pretrained_cfg(file.source["weights"]).to_dict()
    sha256 = config["url"].removesuffix(".pth").rpartition("-")[2]
    facts = facts_of(RULES[rule], sha256, config["num_classes"])
    assert facts.source["weights"] == file.source["weights"]
    assert facts.source["url"] == config["url"]
    assert "Apache-2.0" in facts.source["licence"]
    found = facts.preprocessing
    assert (found.image_size, found.resize_size) == (config["input_size"][1], resize_size(config))
    assert (found.mean, found.std) == (config["mean"], config["std"])
    assert found.interpolation == config["interpolation"]


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        (("timm", "mobilenet_v1"), "mobilenetv1_100"),
        (("timm", "mobilenet_v3_small"), "mobilenetv3_small_075"),
        (("timm-tf", "mobilenet_v3_large"), "tf_mobilenetv3_large_075"),
    ],
)
def test_another_file_has_the_networks_preset(rule, name):
    config = timm.get_pretrained_cfg(name).to_dict()
    facts = facts_of(RULES[rule], num_classes=10)
    found = facts.preprocessing
    assert (found.image_size, found.resize_size) == (config["input_size"][1], resize_size(config))
    assert (found.mean, found.std) == (config["mean"], config["std"])
    assert found.interpolation == config["interpolation"]
    assert (facts.class_names, facts.source) == (None, {})


def test_a_file_that_two_origins_name_alike_needs_the_source(tmp_path, capsys):
    file, output = tmp_path / "weights.pth", tmp_path / "converted"
    torch.save(timm.create_model("mobilenetv3_small_050", num_classes=3).state_dict(), file)
    arguments = ["--model", "v3-small", "--weights", str(file), "--output", str(output)]
    assert main(arguments) == 1
    assert "timm and timm-tf" in capsys.readouterr().err
    assert not output.exists()
    assert main([*arguments, "--source", "timm-tf"]) == 0
    model, _ = load_weights(output)
    assert (model.alpha, model.padding, model.norm_epsilon) == (0.5, "same", 1e-3)
    assert load_metadata(output).preprocessing.mean == (0.5, 0.5, 0.5)
