"""What timm says about its weights travels with them, and its two flavours are not mixed up."""

import math
import re

import pytest
import timm
import torch

from convert.__main__ import main
from convert.published.catalogue import CATALOGUE, find_entry
from convert.rules import RULES
from convert.rules.timm.names import FAMILIES, OTHERS, difference_of, find_architecture
from flaxmobile import load_metadata, load_weights
from tests.convert.rules import facts_of

PUBLISHED = [name for name in CATALOGUE if name.startswith("timm:")]
KINDS = ("mobilenet", "mnasnet", "shufflenet", "inception", "xception")
"""Parts of the names of timm's networks of these papers, and of others."""


def resize_size(config):
    return math.floor(config["input_size"][1] / config["crop_pct"])


def test_all_published_weights_are_known():
    ours = {name.removeprefix("timm:") for name in PUBLISHED}
    theirs = {
        name for name in timm.list_models(pretrained=True) if any(kind in name for kind in KINDS)
    }
    others = {name for name in theirs if difference_of(name.partition(".")[0])}
    assert ours == theirs - others
    assert not ours & others


def test_no_difference_is_told_of_a_network_that_timm_lacks():
    for pattern in OTHERS:
        assert any(re.fullmatch(pattern, name) for name in timm.list_models())


def test_all_names_and_widths_are_timms():
    for family in FAMILIES:
        assert all(map(timm.is_model, family.names))
    theirs = {name for name in timm.list_models() if find_architecture(name)}
    ours = {each.partition(".")[0].removeprefix("timm:") for each in PUBLISHED}
    assert ours <= theirs


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_weights_have_timms_preset(name):
    entry, config = CATALOGUE[name], timm.get_pretrained_cfg(name.removeprefix("timm:")).to_dict()
    published, found = entry.published, entry.published.preprocessing
    assert find_architecture(config["architecture"]) == (entry.origin, entry.model)
    assert (published.repository or None) == config.get("hf_hub_id")
    if published.url:
        assert published.url == config["url"]
        assert published.url.endswith(f"-{published.sha256}.pth")
    assert published.licence.lower() == config["license"]
    assert (found.image_size, found.resize_size) == (config["input_size"][1], resize_size(config))
    assert (found.mean, found.std) == (config["mean"], config["std"])
    assert found.interpolation == config["interpolation"]


@pytest.mark.parametrize("network", dict.fromkeys(name.partition(".")[0] for name in PUBLISHED))
def test_a_network_alone_means_timms_default(network):
    default = timm.get_pretrained_cfg(network.removeprefix("timm:"))
    assert find_entry(network).published.name == f"{network}.{default.tag}"


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
