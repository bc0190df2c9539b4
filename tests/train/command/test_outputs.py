"""What a run of `python -m train` writes and says."""

import datetime
import gzip
import json
import struct
from pathlib import Path

import jax
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from flaxmobile import load_metadata, load_weights
from tests.train.command.process import FLAGS, STEPS, lines, losses, run_command
from train.__main__ import main


def read_events(path):
    """The records of an event file: a length, its checksum, the bytes and theirs."""
    data = path.read_bytes()
    while data:
        (length,) = struct.unpack_from("<Q", data)
        yield Event.FromString(data[12 : 12 + length])
        data = data[16 + length :]


def test_a_run_writes_what_the_contract_lists(uninterrupted):
    names = {path.name for path in uninterrupted.iterdir()}
    assert names == {
        "config.json", "metrics.jsonl", "checkpoints", "best", "class_indices.json",
        "curves.png", "tensorboard", "test.json", "confusion.png", "mistakes.png",
    }  # fmt: skip
    assert json.loads((uninterrupted / "class_indices.json").read_text())["7"] == "7"
    train = lines(uninterrupted)
    assert [line["step"] for line in train] == list(range(1, STEPS + 1))
    assert set(train[0]) == {
        "step", "epoch", "split", "loss", "accuracy", "top5", "learning_rate", "images_per_second",
    }  # fmt: skip
    assert [line["step"] for line in lines(uninterrupted, "validation")] == [9, 18, 20]
    assert [line["step"] for line in lines(uninterrupted, "test")] == [20]
    assert [line["epoch"] for line in train if line["step"] in (9, 10, 20)] == [1, 2, 3]
    assert (uninterrupted / "curves.png").read_bytes().startswith(b"\x89PNG")
    (events,) = (uninterrupted / "tensorboard").iterdir()
    records = list(read_events(events))
    assert records[0].file_version == "brain.Event:2"
    scalars = {
        (record.step, value.tag): value.simple_value
        for record in records
        for value in record.summary.value
    }
    assert scalars[1, "train/loss"] == pytest.approx(train[0]["loss"])
    assert (STEPS, "test/accuracy") in scalars
    settings = json.loads((uninterrupted / "config.json").read_text())
    assert settings["settings"]["steps"] == STEPS
    model, variables = load_weights(uninterrupted / "best")
    assert model.num_classes == 10
    assert jax.tree.leaves(variables)
    results = lines(uninterrupted, "validation")
    best = max(results, key=lambda line: (line["accuracy"], -line["loss"]))
    assert load_metadata(uninterrupted / "best").source == {
        "origin": "python -m train", "step": best["step"], "validation_accuracy": best["accuracy"],
    }  # fmt: skip


def test_the_log_interval_is_kept_and_the_last_step_logged(tmp_path):
    assert main([*FLAGS, "--steps", "7", "--log-every", "3", "--output", "run"]) == 0
    assert list(losses("run")) == [3, 6, 7]


def test_the_run_says_how_each_class_was_recognized(uninterrupted):
    result = json.loads((uninterrupted / "test.json").read_text())
    (test,) = lines(uninterrupted, "test")
    assert {name: result[name] for name in ("accuracy", "loss", "top5")} == {
        name: test[name] for name in ("accuracy", "loss", "top5")
    }
    classes = result["classes"]
    assert list(classes) == [str(digit) for digit in range(10)]
    images = sum(row["images"] for row in classes.values())
    hits = sum(row["recall"] * row["images"] for row in classes.values())
    assert result["images"] == images == 360
    assert hits / images == pytest.approx(test["accuracy"])
    for picture in ("confusion.png", "mistakes.png"):
        assert (uninterrupted / picture).read_bytes().startswith(b"\x89PNG")


def test_the_moving_average_is_what_best_holds():
    flags = [*FLAGS, "--steps", "9", "--learning-rate", "0.01"]
    assert main([*flags, "--output", "plain"]) == 0
    assert main([*flags, "--ema-decay", "0.9", "--output", "ema"]) == 0
    plain, average = (load_weights(f"{name}/best")[1]["params"] for name in ("plain", "ema"))
    # Two programs: the sums over the devices may be rounded differently.
    assert losses("plain") == pytest.approx(losses("ema"), rel=1e-6)
    assert not np.allclose(plain["stem"]["conv"]["kernel"], average["stem"]["conv"]["kernel"])


def test_what_is_said_after_the_last_step_has_a_line_of_its_own(capfd):
    assert main([*FLAGS, "--steps", "1", "--output", "run"]) == 0
    out, bar = capfd.readouterr()
    assert out.splitlines()[-1].startswith("test (360 images): accuracy ")
    assert bar.endswith("\n")


def test_two_runs_begun_in_the_same_second_have_two_directories(monkeypatch):
    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 1, 2, 3, 4, 5)

    monkeypatch.setattr("train.output.datetime.datetime", Clock)
    for _ in range(2):
        assert main([*FLAGS, "--steps", "1"]) == 0
    names = sorted(path.name for path in Path("runs").iterdir())
    assert names == ["tiny-digits-20260102-030405", "tiny-digits-20260102-030405-2"]


def test_eval_only_repeats_the_test_result_and_writes_nothing(uninterrupted, capsys):
    before = (uninterrupted / "metrics.jsonl").read_text()
    assert main(["--eval-only", "--output", str(uninterrupted)]) == 0
    (test,) = lines(uninterrupted, "test")
    assert f"accuracy {test['accuracy']:.4f}" in capsys.readouterr().out
    assert (uninterrupted / "metrics.jsonl").read_text() == before


def test_eval_only_of_a_weights_directory(uninterrupted, capsys):
    weights = str(uninterrupted / "best")
    assert main(["--eval-only", "--init-from", weights, *FLAGS]) == 0
    (test,) = lines(uninterrupted, "test")
    assert f"accuracy {test['accuracy']:.4f}" in capsys.readouterr().out


def test_steps_are_traced(tmp_path):
    """In a process of its own: JAX's profiler crashes where libtpu (0.0.52) has compiled."""
    output = run_command("--steps", 4, "--profile", 1, "--output", tmp_path / "run")
    directory = tmp_path / "run" / "profile"
    assert f"trace in {directory}: open its .trace.json.gz" in output
    (trace,) = directory.rglob("*.trace.json.gz")
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    assert "train" in {event.get("name") for event in events}
