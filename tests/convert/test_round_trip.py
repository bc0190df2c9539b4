"""Every network of torchvision and timm: from there to Flax and back changes no bit."""

import pytest
import torch

from convert import engine
from convert.references import build_reference
from convert.rules import RULES
from convert.sources import read_source, write_tensors
from convert.torch_files import torch_state
from flaxmobile import create_model
from flaxmobile.registry import options_of

ALPHAS = {
    ("torchvision", "mobilenet_v2"): 1.4,
    ("torchvision", "mobilenet_v3_large"): 0.35,
    ("torchvision", "mobilenet_v3_small"): 0.35,
    ("torchvision", "mnasnet"): 0.35,
    ("timm", "mobilenet_v2"): 0.35,
    ("timm", "mobilenet_v3_large"): 0.75,
    ("timm", "mobilenet_v3_small"): 0.5,
    ("timm-tf", "mobilenet_v3_large"): 1.0,
    ("timm-tf", "mobilenet_v3_small"): 1.0,
}
"""Widths that the library has, where alpha 1.0 would be slow or another says more."""
CASES = [
    (origin, name, variant)
    for (origin, name), rule in RULES.items()
    if origin in ("torchvision", "timm", "timm-tf")
    for variant in rule.variants
]


def network_of(origin, name, variant):
    """The library's own network of a variant, in which every number is random."""
    rule = RULES[origin, name]
    options = {"alpha": ALPHAS.get((origin, name), 1.0), **rule.options, **variant}
    model = create_model(name, num_classes=7, **options)
    network = build_reference(origin, name, options_of(model))
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


@pytest.mark.parametrize(("origin", "name", "variant"), CASES, ids=str)
def test_there_and_back_changes_no_bit(origin, name, variant):
    rule, network = RULES[origin, name], network_of(origin, name, variant)
    state = network.state_dict()
    tensors = {key: tensor.numpy() for key, tensor in state.items()}
    found = engine.to_flax(rule, name, tensors)
    assert found.left_out == {}
    back = torch_state(engine.from_flax(rule, found.model, found.variables), rule.version)
    assert_identical(back, {key: tensor.clone() for key, tensor in state.items()})
    network.load_state_dict(back, strict=True)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_so_it_is_through_files(tmp_path, suffix):
    rule, name = RULES["timm", "mobilenet_v3_small"], "mobilenet_v3_small"
    network = network_of("timm", name, {})
    state = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    write_tensors(tmp_path / f"a{suffix}", {key: t.numpy() for key, t in state.items()})
    found = engine.to_flax(rule, name, read_source(tmp_path / f"a{suffix}").tensors)
    write_tensors(tmp_path / f"b{suffix}", engine.from_flax(rule, found.model, found.variables))
    back = read_source(tmp_path / f"b{suffix}").tensors
    assert_identical({key: torch.tensor(back[key]) for key in state}, state)
