"""Refusals: the useful sentence first, a few lines after it, and nothing that is not known."""

import re

import numpy as np
import pytest
import timm
import torch
from torchvision.models import resnet18

from convert.sources import read_source
from flaxmobile import InputError
from tests.convert.commands import convert, error_of, save
from tests.convert.states import random_state


@pytest.fixture(scope="module")
def state():
    return random_state(0.1, 5)


def refusal(tmp_path, capsys, state, *flags, model="v2"):
    path = save(state, tmp_path / "w.pth")
    return error_of(capsys, convert(path, tmp_path / "flax", *flags, model=model))


@pytest.mark.parametrize(
    ("name", "start", "message"),
    [
        ("saved_model.pb", b"\x08\x01\x12\x99\x03", "is TensorFlow's SavedModel: load it in Tens"),
        ("model.ckpt.data-00000-of-00001", b"\x00" * 99, "name its .index file"),
        ("w.pth", b"\n\n<!DOCTYPE html>", "is a web page: download the file itself"),
        ("w.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("w.pth.gz", b"\x1f\x8b\x08", "is compressed: unpack it first"),
        ("w.pth", b"", "is empty"),
    ],
)
def test_a_format_that_is_not_read_is_named(tmp_path, name, start, message):
    (tmp_path / name).write_bytes(start)
    with pytest.raises(InputError) as caught:
        read_source(tmp_path / name)
    assert message in str(caught.value)
    assert "damaged" not in str(caught.value)


def test_a_directory_of_tensorflows_is_named(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01")
    with pytest.raises(InputError, match="is TensorFlow's SavedModel: load it in TensorFlow"):
        read_source(tmp_path)


def test_numpys_archive_is_named(tmp_path):
    np.savez(tmp_path / "w.npz", a=np.zeros(3))
    (tmp_path / "w.npz").rename(tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"is NumPy's archive: give its name the suffix \.npz"):
        read_source(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda state: {
                name.replace(".running_var", ".bias") if "running_var" in name else name: tensor
                for name, tensor in state.items()
                if "running_mean" not in name
            },
            "it has no statistics of batch normalization",
        ),
        (
            lambda state: {**state, "classifier.1._packed_params._packed_params": torch.zeros(3)},
            "its weights are quantized: convert the float weights",
        ),
        (
            lambda state: {
                **{f"{name}_orig": tensor for name, tensor in state.items()},
                **{f"{name}_mask": tensor for name, tensor in state.items()},
                **state,
            },
            "it is pruned: make that permanent",
        ),
        (
            lambda state: {name: tensor for name, tensor in state.items() if "conv.0" not in name},
            "it lacks 85 of 262 tensors, and has 0 that are not the network's\n  features.1.conv.0",
        ),
        (
            lambda state: {name: tensor[..., None] for name, tensor in state.items()},
            "not its shapes, types or numbers\n  features.0.0.weight is float32[8, 3, 3, 3, 1], ",
        ),
    ],
    ids=["folded", "quantized", "pruned", "incomplete", "reshaped"],
)
def test_the_cause_stands_first(tmp_path, capsys, state, change, message):
    assert message in refusal(tmp_path, capsys, change(state))


def test_a_report_has_all_that_a_refusal_is_too_short_for(tmp_path, capsys, state):
    report = tmp_path / "report.txt"
    strange = {f"{name}s" * 20: tensor for name, tensor in state.items()}
    err = refusal(tmp_path, capsys, {**state, **strange}, "--report", str(report))
    assert len(err) < 2000
    assert "and 311 more, which --report FILE lists" in err
    lines = report.read_text().splitlines()
    assert len(lines) == 1 + len(strange)
    assert err.splitlines()[0].endswith(lines[0])


def test_a_report_of_a_conversion_says_how_every_tensor_was_used(tmp_path, capsys, state):
    report = tmp_path / "report.txt"
    path = save({**state, "n_averaged": torch.tensor(3)}, tmp_path / "w.pth")
    assert convert(path, tmp_path / "flax", "--report", str(report)) == 0
    lines = report.read_text().splitlines()
    assert "features.0.0.weight: used" in lines
    assert "n_averaged: left out: the number of networks in an average" in lines
    assert "left out, as the number of networks in an average: n_averaged" in lines
    assert len([line for line in lines if line.endswith(": used")]) == 262


def test_sizes_are_not_told_of_a_file_that_does_not_fit(tmp_path, capsys, state):
    few = dict(list(state.items())[:100])
    assert "alpha" not in refusal(tmp_path, capsys, few)


def test_names_that_two_networks_share_are_a_guess(tmp_path, capsys):
    with torch.device("meta"):
        state = timm.create_model("efficientnet_b0", num_classes=5).state_dict()
    state = {name: torch.ones(tensor.shape) for name, tensor in state.items()}
    err = refusal(tmp_path, capsys, state, model="v2")
    assert re.search(
        r" of its \d+ names are also those of \w+ from timm; if that is what it is:", err
    )
    assert "its names are those" not in err


def test_another_origin_than_the_one_asked_for_is_said(tmp_path, capsys, state):
    err = refusal(tmp_path, capsys, state, "--source", "timm")
    assert "its names are those of mobilenet_v2 from torchvision: --source torchvision" in err


def test_no_network_is_invented(tmp_path, capsys):
    with torch.device("meta"):
        state = resnet18(num_classes=5).state_dict()
    state = {name: torch.ones(tensor.shape) for name, tensor in state.items()}
    err = refusal(tmp_path, capsys, state)
    assert "alpha" not in err
    assert "--model" not in err
    assert "--no-classifier" not in err
