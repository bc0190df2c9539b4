"""A conversion is complete or refused: every damage is named, and nothing is written."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from convert.__main__ import main

ALPHA = 0.1  # narrow: the names are those of every width
DEPTHWISE = "features.2.conv.1.0.weight"
RUNNING = "features.0.1.running_mean"


@pytest.fixture(scope="module")
def reference():
    """A torchvision network whose statistics and affine parameters are not the initial ones."""
    torch.manual_seed(0)
    network = torchvision.models.mobilenet_v2(width_mult=ALPHA, num_classes=7)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.ndim == 1:
                tensor.uniform_(0.5, 1.5) if "var" in name else tensor.uniform_(-1, 1)
    return network


@pytest.fixture(autouse=True)
def workplace(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def convert(content, *flags):
    torch.save(content, "given.pth")
    return main(["--model", "v2", "--weights", "given.pth", "--output", "out", *flags])


def refused(capsys, content, *flags):
    """The error of a conversion, which wrote nothing."""
    assert convert(content, *flags) == 1
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert sorted(path.name for path in Path().iterdir()) == ["given.pth"]
    return error


@pytest.mark.parametrize("wrap", ["plain", "state_dict", "model", "module."])
def test_there_and_back_is_identical_to_the_bit(reference, wrap):
    state = reference.state_dict()
    content = {
        "plain": state,
        "state_dict": {"state_dict": state, "epoch": 3},
        "model": {"model": state},
        "module.": {f"module.{name}": tensor for name, tensor in state.items()},
    }[wrap]
    assert convert(content) == 0
    assert main(["--to-torch", "--weights", "out", "--output", "back.pth"]) == 0
    back = torch.load("back.pth", weights_only=True)
    fresh = torchvision.models.mobilenet_v2(width_mult=ALPHA, num_classes=7)
    fresh.load_state_dict(back, strict=True)
    assert list(back) == list(state)
    for name, tensor in back.items():
        expected = torch.tensor(0) if name.endswith("num_batches_tracked") else state[name]
        assert tensor.dtype == expected.dtype
        assert torch.equal(tensor, expected), name


def rename(state):
    state[DEPTHWISE.replace("weight", "wieght")] = state.pop(DEPTHWISE)


def claim_twice(state):
    state["module." + RUNNING] = state[RUNNING]


MUTATIONS = {
    "drop": (lambda s: s.pop(DEPTHWISE), [f"{DEPTHWISE} is missing"]),
    "extra": (lambda s: s.update(more=torch.zeros(1)), ["more is unknown"]),
    "rename": (rename, [f"{DEPTHWISE} is missing (did you mean", "wieght is unknown"]),
    "reshape": (lambda s: s.update({DEPTHWISE: s[DEPTHWISE].reshape(-1, 1, 9, 1)}), [DEPTHWISE]),
    "transpose": (lambda s: s.update({DEPTHWISE: s[DEPTHWISE].transpose(0, 1)}), [DEPTHWISE]),
    "float64": (lambda s: s.update({RUNNING: s[RUNNING].double()}), [RUNNING, "float64"]),
    "integer": (lambda s: s.update({RUNNING: s[RUNNING].int()}), [RUNNING, "int32"]),
    "nan": (lambda s: s.update({RUNNING: s[RUNNING] * np.nan}), [RUNNING, "NaN"]),
    "twice": (claim_twice, [f"module.{RUNNING}", "both claim"]),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_changed_tensor_is_refused_by_name(reference, mutation, capsys):
    change, messages = MUTATIONS[mutation]
    state = dict(reference.state_dict())
    change(state)
    error = refused(capsys, state)
    for message in messages:
        assert message in error


def test_all_problems_are_listed_at_once(reference, capsys):
    state = dict(reference.state_dict())
    for change, _ in (MUTATIONS[name] for name in ("drop", "extra", "nan")):
        change(state)
    error = refused(capsys, state)
    for part in (f"{DEPTHWISE} is missing", "more is unknown", f"{RUNNING} holds"):
        assert part in error


def test_the_width_is_read_and_checked(reference, capsys):
    assert "--alpha is 0.5" in refused(capsys, reference.state_dict(), "--alpha", "0.5")
    assert convert(reference.state_dict(), "--alpha", "0.1") == 0


@pytest.mark.parametrize("alpha", [0.35, 0.5, 0.75, 1.0, 1.3, 1.4])
def test_published_widths_are_found(alpha, capsys):
    network = torchvision.models.mobilenet_v2(width_mult=alpha, num_classes=3)
    assert convert(network.state_dict()) == 0
    assert f"alpha {alpha} and 3 classes" in capsys.readouterr().out


class Code:
    """Pickles as a call that makes a file."""

    def __reduce__(self):
        return os.mkdir, ("executed",)


@pytest.mark.parametrize("wrapped", [True, False])
def test_pickled_code_is_not_executed(reference, wrapped, capsys):
    content = {"state_dict": reference.state_dict(), "x": Code()} if wrapped else Code()
    assert "which is not executed" in refused(capsys, content)


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"PK\x03\x04 and no zip", pickle.dumps({"a": 1}), b"\x89HDF\r\n\x1a\n"],
)
def test_files_that_are_no_checkpoint_are_refused(content, capsys):
    Path("given.pth").write_bytes(content)
    assert main(["--model", "v2", "--weights", "given.pth", "--output", "out"]) == 1
    assert "given.pth" in capsys.readouterr().err
    assert not Path("out").exists()


def test_a_truncated_file_is_refused(reference, capsys):
    torch.save(reference.state_dict(), "whole.pth")
    Path("given.pth").write_bytes(Path("whole.pth").read_bytes()[:-2000])
    assert main(["--model", "v2", "--weights", "given.pth", "--output", "out"]) == 1
    assert "given.pth is damaged" in capsys.readouterr().err
    assert not Path("out").exists()


def test_another_network_is_refused(capsys):
    state = torchvision.models.shufflenet_v2_x0_5(num_classes=3).state_dict()
    assert "is it another network's?" in refused(capsys, state)


def test_what_exists_is_not_overwritten(reference, capsys):
    Path("out").mkdir()
    assert convert(reference.state_dict()) == 1
    assert "out exists already" in capsys.readouterr().err
    assert not list(Path("out").iterdir())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model", "v2", "--weights", "none.pth", "--output", "out"], "none.pth cannot be read"),
        (["--to-torch", "--weights", "nowhere", "--output", "x.pth"], "not a weights directory"),
    ],
)
def test_wrong_flags_give_one_line(flags, message, capsys):
    assert main(flags) == 1
    error = capsys.readouterr().err.strip()
    assert message in error
    assert len(error.splitlines()) == 1


def test_the_command_works_from_any_directory(reference):
    torch.save(reference.state_dict(), "given.pth")
    command = [sys.executable, "-m", "convert", "--model", "v2", "--weights", "given.pth"]
    done = subprocess.run(
        [*command, "--output", "out"], capture_output=True, text=True, check=True, timeout=120
    )
    assert "found torchvision's mobilenet_v2 with alpha 0.1 and 7 classes" in done.stdout
    assert done.stderr == ""
