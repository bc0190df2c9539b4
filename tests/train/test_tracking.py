"""Experiment trackers of a run."""

import json
import re
import sys

import pytest

from flaxmobile import registry
from flaxmobile.errors import InputError, pip_install
from tests.train.tiny import SPEC
from train.__main__ import main
from train.flags import read_config
from train.tracking import Tracking

STUB = """
import json, pathlib
FILE = pathlib.Path(__file__).with_name("calls.jsonl")

def note(*call):
    with FILE.open("a") as file:
        file.write(json.dumps(call) + "\\n")

def init(**options): note("init", options)
def log(numbers, step): note("log", step, numbers)
def finish(): note("finish")
"""
RUN = ["--model", "tiny", "--image-size", "32", "--batch-size", "64", "--steps", "4"]


@pytest.fixture(params=["wandb", "trackio"])
def tracker(monkeypatch, tmp_path, request):
    """The name of a stub of a tracker, and the file in which it notes its calls."""
    (tmp_path / f"{request.param}.py").write_text(STUB)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, request.param, raising=False)
    yield request.param, tmp_path / "calls.jsonl"
    sys.modules.pop(request.param, None)


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_tracker_gets_the_run_its_settings_and_its_numbers(tracker, tmp_path):
    name, calls = tracker
    tracking = Tracking(name, tmp_path / "runs" / "first", {"batch_size": 64})
    tracking.add(3, {"train/loss": 0.5})
    tracking.close()
    begin, *others = read_lines(calls)
    options = {
        "project": "flaxmobile",
        "name": "first",
        "config": {"batch_size": 64},
        "resume": "allow",
    }
    if name == "wandb":
        options |= {"id": "first", "dir": str(tmp_path / "runs" / "first")}
    assert begin == ["init", options]
    assert others == [["log", 3, {"train/loss": 0.5}], ["finish"]]


@pytest.mark.parametrize("tracker", ["wandb"], indirect=True)
def test_a_run_is_tracked(tracker, monkeypatch, tmp_path):
    monkeypatch.setitem(registry.SPECS, "tiny", SPEC)
    output = tmp_path / "run"
    flags = ["--track", "wandb", "--output", str(output), "--log-every", "2"]
    assert main([*RUN, *flags]) == 0
    logged = [call for call in read_lines(tracker[1]) if call[0] == "log"]
    lines = read_lines(output / "metrics.jsonl")
    assert [
        (step, numbers[f"{line['split']}/loss"])
        for (_, step, numbers), line in zip(logged, lines, strict=True)
    ] == [(line["step"], line["loss"]) for line in lines]


def test_a_tracker_without_its_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "trackio", None)
    message = f"--track trackio needs its package: {pip_install('trackio')}"
    with pytest.raises(InputError, match=re.escape(message)):
        read_config(["--track", "trackio"])
