"""Every network of torchvision and timm: from there to Flax and back changes no bit.

The networks are the libraries' own, built from our options, and take what goes back strictly.
"""

import pytest
import torch

from convert import engine
from convert.formats.torch import torch_state
from convert.references import build_reference
from convert.rules import RULES
from convert.sources import read_source, write_tensors
from flaxmobile.tasks import build, options_of
from tests.convert.rules import assert_modules_are_those_of, each_variant, fill, options_for


def network_of(origin, name, variant):
    """The library's own network of a variant, in which every number is random."""
    model = build(name, **options_for(origin, name, variant))
    with torch.device("meta"):  # their initial numbers take longer than all the rest
        network = build_reference(origin, name, options_of(model))
    network = network.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5, generator=generator)
        else:
            tensor.fill_(100)
    return network


def assert_identical(found, expected):
    """To the bit; the steps that BatchNorm counted are not kept."""
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        kept = not name.endswith("num_batches_tracked")
        assert torch.equal(found[name], tensor if kept else torch.zeros_like(tensor)), name


@each_variant("torchvision", "timm", "timm-tf")
def test_there_and_back_changes_no_bit(origin, name, variant):
    rule, network = RULES[origin, name], network_of(origin, name, variant)
    state = network.state_dict()
    tensors = {key: tensor.numpy() for key, tensor in state.items()}
    found = fill(rule, name, tensors)
    assert (found.options, found.left_out) == (options_for(origin, name, variant), {})
    assert_modules_are_those_of(rule, found)
    back = torch_state(engine.from_flax(rule, found.model, found.variables), rule.version)
    assert_identical(back, {key: tensor.clone() for key, tensor in state.items()})
    network.load_state_dict(back, strict=True)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_there_and_back_through_files_changes_no_bit(tmp_path, suffix):
    rule, name = RULES["timm", "mobilenet_v3_small"], "mobilenet_v3_small"
    network = network_of("timm", name, {})
    state = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    write_tensors(tmp_path / f"a{suffix}", {key: t.numpy() for key, t in state.items()})
    found = fill(rule, name, read_source(tmp_path / f"a{suffix}").tensors)
    write_tensors(tmp_path / f"b{suffix}", engine.from_flax(rule, found.model, found.variables))
    back = read_source(tmp_path / f"b{suffix}").tensors
    assert_identical({key: torch.tensor(back[key]) for key in state}, state)
