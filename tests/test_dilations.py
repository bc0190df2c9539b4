"""Files of dilation patterns: ours, and those of the authors' zoo."""

import json

import pytest

from flaxmobile import InputError, create_model, load_dilations
from flaxmobile.command.options import read_options

LAYER = "stage1_block1/filter"


def zoo_of(**options):
    """A pattern as the authors write it: most channels plain, and a dilation of two and three."""
    channels = create_model("ic_conv", **options).layers().values()
    return [{"(0, 0)": count - 2, "(0, 1)": 0, "(1, 2)": 2} for count in channels]


@pytest.mark.parametrize("base", ["resnet50", "resnet101", "mobilenet_v2"])
def test_a_pattern_of_the_zoo_gives_channels_in_its_order(tmp_path, base):
    options = {"base": base, "alpha": 0.1}
    path = tmp_path / "ic_resnet50_k9.json"
    path.write_text(json.dumps(zoo_of(**options)))
    model = create_model("ic_conv", pattern=load_dilations(path), **options)
    assert list(model.dilations) == list(model.layers())
    for layer, channels in model.layers().items():
        assert model.dilations[layer] == ((1, 1),) * (channels - 2) + ((2, 3),) * 2
    again = {layer: [list(pair) for pair in pairs] for layer, pairs in model.dilations.items()}
    assert create_model("ic_conv", pattern=again, **options) == model


def test_the_command_line_names_the_file(tmp_path):
    path = tmp_path / "pattern.json"
    path.write_text(json.dumps(zoo_of(alpha=0.1)))
    options = read_options([f"pattern={path}", "base=resnet50"], alpha=0.1)
    assert create_model("ic_conv", **options).dilations[LAYER][-1] == (2, 3)
    with pytest.raises(InputError, match=r"elsewhere\.json cannot be read: No such file"):
        read_options(["pattern=elsewhere.json"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda zoo: zoo[:-1], "pattern has 15 layers, the network has 16$"),
        (lambda zoo: zoo * 2 + zoo[:1], "the network has 16; accepted: base=resnet101"),
        (lambda zoo: [{"(0, 0)": 7}, *zoo[1:]], f"has 7 for {LAYER}; accepted: 8 entries"),
        (lambda zoo: [{"0 0": 8}, *zoo[1:]], f"has '0 0': 8 for {LAYER}; accepted: "),
        (lambda zoo: [{"(0, 0)": -8}, *zoo[1:]], rf"has '\(0, 0\)': -8 for {LAYER}"),
        (lambda zoo: [{"(0, 0)": 8.0}, *zoo[1:]], rf"has '\(0, 0\)': 8\.0 for {LAYER}"),
        (lambda zoo: [{"(6, 0)": 8}, *zoo[1:]], r"has \(7, 1\) for channel 0 of .* from 1 to 6"),
    ],
)
def test_a_pattern_of_another_network_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        create_model("ic_conv", alpha=0.1, pattern=change(zoo_of(alpha=0.1)))


@pytest.mark.parametrize("content", ["[]", "[1, 2]", "7", '{"dilations": 3}'])
def test_a_file_without_a_pattern_is_refused(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(InputError, match=r"is not a dilation pattern; accepted: .* pattern zoo"):
        load_dilations(tmp_path / "x.json")
