"""Interrupted, lengthened and finished runs that go on."""

import json
import shutil
import signal
from pathlib import Path

import chex

from flaxmobile import load_weights
from tests.train.command.process import FLAGS, STEPS, lines, losses, run_command
from train.__main__ import main
from train.output import owning

INTERRUPTIONS = (  # after which line of metrics.jsonl, while the next step runs
    (2, signal.SIGKILL),  # before the first checkpoint
    (11, signal.SIGKILL),  # after checkpoints at steps 5, 9 and 10
    (12, signal.SIGINT),
    (17, signal.SIGTERM),  # between step 18, the last of its epoch, and its validation
)


def test_a_run_that_is_killed_and_stopped_has_the_same_losses_to_the_bit(tmp_path, uninterrupted):
    run = tmp_path / "run"
    flags = "--steps", STEPS, "--output", run, "--checkpoint-every", 5, "--resume"
    for step, number in INTERRUPTIONS:
        killed = number == signal.SIGKILL
        status = -number if killed else 128 + number
        output = run_command(*flags, status=status, SIGNAL_AT=f"{step} {int(number)}")
        flags = "--resume", "--output", run
        if not killed:
            assert f"stopped; continue with --output {run} --resume" in output
            assert max(losses(run)) == step + 1
    assert max(losses(run, "validation")) == 9
    run_command(*flags)
    for split in ("train", "validation", "test"):
        assert losses(run, split) == losses(uninterrupted, split)
    chex.assert_trees_all_equal(
        load_weights(run / "best")[1], load_weights(uninterrupted / "best")[1]
    )


def test_a_lengthened_run_stays_as_long_as_was_asked_last():
    assert main([*FLAGS, "--steps", "4", "--output", "run"]) == 0
    assert main(["--resume", "--output", "run", "--steps", "9"]) == 0
    assert main(["--resume", "--output", "run"]) == 0
    assert max(losses("run")) == 9
    assert main(["--resume", "--output", "run", "--epochs", "2"]) == 0
    assert max(losses("run")) == 18
    settings = json.loads(Path("run/config.json").read_text())
    assert (settings["settings"]["steps"], settings["total_steps"]) == (None, 18)


def test_a_run_whose_checkpoints_are_gone_is_refused(capsys):
    assert main([*FLAGS, "--steps", "2", "--output", "run"]) == 0
    shutil.rmtree("run/checkpoints")
    before = Path("run/metrics.jsonl").read_text()
    assert main(["--resume", "--output", "run", "--steps", "4"]) == 1
    assert "has its best weights but no checkpoint" in capsys.readouterr().err
    assert Path("run/metrics.jsonl").read_text() == before


def test_a_run_has_one_owner(uninterrupted, capsys):
    before = (uninterrupted / "metrics.jsonl").read_text()
    with owning(uninterrupted):
        assert main(["--resume", "--output", str(uninterrupted)]) == 1
    assert "another process trains in" in capsys.readouterr().err
    assert (uninterrupted / "metrics.jsonl").read_text() == before


def test_resuming_a_finished_run_only_evaluates(uninterrupted, capsys):
    before = losses(uninterrupted)
    assert main(["--resume", "--output", str(uninterrupted)]) == 0
    assert losses(uninterrupted) == before
    assert len(lines(uninterrupted, "test")) == 1


def test_resuming_what_does_not_exist_yet_starts_it(capsys):
    assert main([*FLAGS, "--steps", "2", "--resume", "--output", "new"]) == 0
    assert list(losses("new")) == [1, 2]
    assert "there is no run in new to continue: a new one begins" in capsys.readouterr().out


def test_a_run_is_not_resumed_to_fewer_steps_than_it_has_taken(uninterrupted, capsys):
    before = losses(uninterrupted)
    flags = ["--resume", "--output", str(uninterrupted), "--steps", str(STEPS - 1)]
    assert main(flags) == 1
    assert f"has already taken {STEPS} steps, more than {STEPS - 1}" in capsys.readouterr().err
    assert losses(uninterrupted) == before
