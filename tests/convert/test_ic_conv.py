"""The authors' files of IC-Conv: a convolution for each dilation, and the pattern in another file.

Their own network, with two patterns of their zoo (IC-ResNet-50 and 101), was filled with random
numbers once: the logits differed by at most 2e-6 of the largest, and the file came back to the bit.
"""

import jax
import numpy as np
import pytest
import torch
from torch.nn import functional

from convert import engine
from convert.reading import Reading
from convert.recognition import recognise
from convert.rules import RULES
from convert.sources import read_source
from flaxmobile import InputError, create_model
from flaxmobile.models.ic_conv import ICConv
from tests.convert.commands import save
from tests.networks import random_variables

RULE = RULES["authors", "ic_conv"]
SMALL = RULE._replace(own_options={**RULE.own_options, "alpha": 0.1})
COUNTS = {"(0, 0)": 4, "(0, 1)": 1, "(1, 0)": 0, "(3, 1)": 3}
LAYER = "layer1.0.conv2"


@pytest.fixture
def pattern():
    """As the zoo has it: the dilations of COUNTS, in every layer."""
    channels = create_model("ic_conv", alpha=0.1).layers().values()
    return [{**COUNTS, "(0, 0)": count - 4} for count in channels]


@pytest.fixture
def model(pattern):
    return create_model("ic_conv", alpha=0.1, num_classes=5, pattern=pattern)


@pytest.fixture
def tensors(model):
    return engine.from_flax(SMALL, model, random_variables(model))


def test_files_come_from_parts_and_go_back_to_them(model, tensors, pattern):
    shapes = [tensors[f"{LAYER}.conv_list.{number}.weight"].shape for number in range(3)]
    assert shapes == [(4, 8, 3, 3), (1, 8, 3, 3), (3, 8, 3, 3)]
    inside = {f"module.{name}": array for name, array in tensors.items()}
    found = engine.to_flax(Reading.of(SMALL, inside), "ic_conv", {"pattern": pattern})
    assert found.model == model
    back = engine.from_flax(SMALL, found.model, found.variables)
    assert list(back) == list(tensors)
    jax.tree.map(np.testing.assert_array_equal, back, tensors)


def test_each_part_is_convolved_with_its_own_dilation(model, tensors):
    x = np.random.default_rng(0).normal(size=(1, 9, 9, 8)).astype(np.float32)
    maps = [
        functional.conv2d(
            torch.tensor(x).permute(0, 3, 1, 2),
            torch.tensor(tensors[f"{LAYER}.conv_list.{number}.weight"]),
            padding=dilation,
            dilation=dilation,
        )
        for number, dilation in enumerate([(1, 1), (1, 2), (4, 2)])
    ]
    reading = Reading.of(SMALL, tensors)
    kernel = reading.tensors[f"{LAYER}.weight"].transpose(2, 3, 1, 0)
    ours = ICConv(8, 3, use_bias=False, dilations=model.dilations["stage1_block1/filter"])
    found = ours.apply({"params": {"kernel": kernel}}, x)
    expected = torch.cat(maps, 1).permute(0, 2, 3, 1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("chosen", ["none", "another"])
def test_the_pattern_is_asked_for(tensors, pattern, chosen):
    pattern[0] = {"(0, 0)": 8}
    options = {"pattern": pattern} if chosen == "another" else {}
    with pytest.raises(InputError) as caught:
        engine.to_flax(Reading.of(SMALL, tensors), "ic_conv", options)
    assert f"{LAYER}.weight has parts of 4, 1, 3 channels, one for each dilation" in str(
        caught.value
    )
    assert "--options pattern=FILE" in str(caught.value)


def test_equal_dilations_apart_cannot_go_back(model):
    apart = dict(model.dilations)
    apart["stage1_block1/filter"] = ((1, 1), (2, 2)) * 4
    other = create_model("ic_conv", alpha=0.1, num_classes=5, pattern=apart)
    with pytest.raises(InputError, match=r"equal dilations .* lie apart"):
        engine.from_flax(SMALL, other, random_variables(other))


def test_parts_of_other_widths_are_refused(tensors, pattern):
    name = f"{LAYER}.conv_list.1.weight"
    damaged = {**tensors, name: tensors[name][:, 1:]}
    with pytest.raises(InputError, match=rf"{LAYER}\.weight is float32\[0\], accepted"):
        engine.to_flax(Reading.of(SMALL, damaged), "ic_conv", {"pattern": pattern})


def test_a_file_of_theirs_is_recognised(tmp_path):
    names = [theirs for _, theirs in RULE.modules(create_model("ic_conv"))]
    state = {f"module.{name}.conv_list.0.weight": torch.zeros(1, 1, 1, 1) for name in names}
    path = save({"state_dict": state}, tmp_path / "ckpt.pth.tar")
    origin, reading = recognise("ic_conv", "auto", read_source(path))
    assert (origin, len(reading.parts)) == ("authors", len(names))
