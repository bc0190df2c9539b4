"""`python -m train` as a user runs it, on a network that compiles in a second."""

import datetime
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path

import chex
import jax
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

import train.loop
from flaxmobile import load_metadata, load_weights, registry
from tests.train.tiny import SPEC
from tests.xla import QUICK
from train.__main__ import main
from train.output import owning
from train.parallel import JitParallel

ROOT = Path(__file__).parents[2]
FLAGS = ["--model", "tiny", "--image-size", "32", "--log-every", "1", "--batch-size", "128"]
STEPS = 20  # 9 to an epoch


@pytest.fixture(autouse=True)
def tiny(monkeypatch, tmp_path_factory):
    """The network `tiny`, and a working directory of its own."""
    monkeypatch.setitem(registry.SPECS, "tiny", SPEC)
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))


def run_command(*flags, status=0, **environment):
    """The command in a process of its own, on one device; what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.train.tiny", *FLAGS, *map(str, flags)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=600,
        env={**os.environ, "XLA_FLAGS": " ".join(QUICK), "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip
    assert done.returncode == status, done.stdout
    return done.stdout


def lines(directory, split="train"):
    text = (Path(directory) / "metrics.jsonl").read_text()
    return [line for line in map(json.loads, text.splitlines()) if line["split"] == split]


def read_events(path):
    """The records of an event file: a length, its checksum, the bytes and theirs."""
    data = path.read_bytes()
    while data:
        (length,) = struct.unpack_from("<Q", data)
        yield Event.FromString(data[12 : 12 + length])
        data = data[16 + length :]


def losses(directory, split="train"):
    return {line["step"]: line["loss"] for line in lines(directory, split)}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """A whole run, to compare with."""
    directory = tmp_path_factory.mktemp("whole") / "run"
    run_command("--steps", STEPS, "--output", directory)
    return directory


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


def test_patience_ends_a_run_that_no_longer_improves():
    flags = [*FLAGS, "--epochs", "9", "--patience", "2", "--learning-rate", "1e-12"]
    assert main([*flags, "--best-by", "loss", "--no-norm-warmup", "--output", "run"]) == 0
    validated = [line["step"] for line in lines("run", "validation")]
    assert 9 < validated[-1] < 81
    best = min(lines("run", "validation"), key=lambda line: line["loss"])
    assert load_metadata("run/best").source["step"] == best["step"]
    assert validated[-1] - best["step"] == 18


def test_steps_that_are_not_finite_are_skipped_as_often_as_allowed(capsys):
    flags = [*FLAGS, "--steps", "30", "--learning-rate", "1e30", "--schedule", "constant"]
    flags += ["--optimizer", "sgd", "--warmup-epochs", "0", "--skip-nonfinite", "2"]
    assert main([*flags, "--output", "run"]) == 1
    out, error = capsys.readouterr()
    assert "step 2 is skipped" in out
    assert "(2 of 2 in a row)" in out
    assert "at step 4: training stopped" in error


def test_recipes_of_the_step_train_together():
    flags = [*FLAGS, "--mixup", "0.2", "--cutmix", "1", "--accumulate", "2", "--clip", "1"]
    flags += ["--loss", "bce", "--lr-scale", "stem.*=0", "--skip-nonfinite", "1"]
    assert main([*flags, "--steps", "3", "--learning-rate", "0.01", "--output", "run"]) == 0
    assert main([*FLAGS, "--steps", "1", "--learning-rate", "1e-12", "--output", "start"]) == 0
    tuned, start = (load_weights(f"{run}/best")[1]["params"] for run in ("run", "start"))
    chex.assert_trees_all_close(tuned["stem"], start["stem"], atol=1e-9)
    assert not np.allclose(tuned["classifier"]["kernel"], start["classifier"]["kernel"])


def test_a_student_learns_from_a_teacher(uninterrupted):
    flags = [*FLAGS, "--steps", "2", "--distill-from", str(uninterrupted / "best")]
    assert main([*flags, "--distill-weight", "1", "--output", "run"]) == 0
    assert losses("run")[1] != losses(uninterrupted)[1]


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


def test_what_does_not_fit_into_memory_is_said(monkeypatch, capsys):
    def fit(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes")

    monkeypatch.setattr(train.loop.Trainer, "fit", fit)
    assert main([*FLAGS, "--output", "run"]) == 1
    assert "out of memory with 128 images in a batch: take a smaller" in capsys.readouterr().err


def test_what_is_said_after_the_last_step_has_a_line_of_its_own(capfd):
    assert main([*FLAGS, "--steps", "1", "--output", "run"]) == 0
    out, bar = capfd.readouterr()
    assert out.splitlines()[-1].startswith("test (360 images): accuracy ")
    assert bar.endswith("\n")


AT_ONCE = """
import os, signal, threading, time
from train.signals import StopSignals

with StopSignals("stopped; continue") as signals:
    threading.Timer(1, os.kill, (os.getpid(), signal.SIGTERM)).start()
    try:
        sum(iter(lambda: 1, 0))  # a loop that looks at no signal, as a compiler does
    finally:
        print("too late")
"""


def test_a_signal_ends_at_once_what_has_nothing_to_lose():
    words = [sys.executable, "-c", AT_ONCE]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT, timeout=60)
    assert (done.returncode, done.stdout) == (143, "stopped; continue\n"), done.stderr


def test_a_full_disk_is_one_line_and_the_run_goes_on_once_there_is_room(tmp_path):
    """The files may have 20 KB each, less than a checkpoint or the picture of the curves."""
    limited = "ulimit -f 20; trap '' XFSZ; exec \"$@\""
    command = [sys.executable, "-m", "tests.train.tiny", *FLAGS, "--steps", "3"]
    done = subprocess.run(
        ["bash", "-c", limited, "bash", *command, "--output", "run"],
        capture_output=True, text=True, check=False, timeout=300,
        env={
            **os.environ, "XLA_FLAGS": "", "PYTHONPATH": str(ROOT),
            "JAX_ENABLE_COMPILATION_CACHE": "false",  # it would warn
        },
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("error: ") == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "File too large" in done.stderr.splitlines()[-1]
    assert main(["--resume", "--output", "run"]) == 0
    assert list(losses("run")) == [1, 2, 3]


INTERRUPTED = """
import signal, time
from train.signals import exiting_on_ctrl_c

with exiting_on_ctrl_c("python -m train"):
    try:
        signal.raise_signal(signal.SIGINT)
    except BaseException:  # as a callback of a library would
        time.sleep(600)
"""


def test_ctrl_c_before_the_first_step_is_not_lost():
    words = [sys.executable, "-c", INTERRUPTED]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT, timeout=60)
    assert (done.returncode, done.stderr) == (130, "python -m train: interrupted\n")


def test_ctrl_c_is_the_callers_again_afterwards():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit):
        main(["--help"])
    assert signal.getsignal(signal.SIGINT) == before


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


def test_a_loss_that_is_not_finite_stops_and_keeps_the_good_checkpoint(capsys):
    flags = [*FLAGS, "--steps", "30", "--learning-rate", "1e30", "--schedule", "constant"]
    flags += ["--optimizer", "sgd", "--warmup-epochs", "0", "--checkpoint-every", "1"]
    assert main([*flags, "--output", "run"]) == 1
    error = capsys.readouterr().err
    assert "at step 2" in error
    assert "steps 1." in error
    assert [path.name for path in Path("run/checkpoints").iterdir()] == ["1"]
    assert all(np.isfinite(loss) for loss in losses("run").values())


def test_the_moving_average_is_what_best_holds():
    flags = [*FLAGS, "--steps", "9", "--learning-rate", "0.01"]
    assert main([*flags, "--output", "plain"]) == 0
    assert main([*flags, "--ema-decay", "0.9", "--output", "ema"]) == 0
    plain, average = (load_weights(f"{name}/best")[1]["params"] for name in ("plain", "ema"))
    # Two programs: the sums over the devices may be rounded differently.
    assert losses("plain") == pytest.approx(losses("ema"), rel=1e-6)
    assert not np.allclose(plain["stem"]["conv"]["kernel"], average["stem"]["conv"]["kernel"])


def test_pmap_and_jit_runs_have_the_same_losses():
    for parallel in ("jit", "pmap"):
        flags = [*FLAGS, "--steps", "5", "--parallel", parallel, "--output", parallel]
        assert main(flags) == 0
    np.testing.assert_allclose(
        list(losses("jit").values()), list(losses("pmap").values()), rtol=1e-4
    )


def test_an_epoch_transfers_nothing_but_what_it_puts(monkeypatch):
    """Batches go to the devices by `put_batch`; nothing else of a step comes from the host."""
    fit = train.loop.Trainer.fit

    def guarded(trainer):
        with jax.transfer_guard("disallow"):
            fit(trainer)

    monkeypatch.setattr(train.loop.Trainer, "fit", guarded)
    assert main([*FLAGS, "--steps", "3", "--output", "run"]) == 0
    monkeypatch.setattr(JitParallel, "put_batch", lambda parallel, array: array)
    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        main([*FLAGS, "--steps", "3", "--output", "other"])


def test_bfloat16_trains():
    assert main([*FLAGS, "--steps", "3", "--dtype", "bfloat16", "--output", "run"]) == 0
    model, variables = load_weights("run/best")
    assert model.dtype == "bfloat16"
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype("float32")}


def test_an_existing_directory_is_refused_and_left_alone(capsys):
    Path("run").mkdir()
    Path("run/precious.txt").write_text("mine")
    assert main([*FLAGS, "--output", "run"]) == 1
    assert "run exists already: add --resume" in capsys.readouterr().err
    assert main([*FLAGS, "--output", "run", "--resume"]) == 1
    assert "not the directory of a run" in capsys.readouterr().err
    assert [path.name for path in Path("run").iterdir()] == ["precious.txt"]


def refused(flags, status, capsys):
    """The one line that a refused command prints; it wrote nothing."""
    try:
        given = main(flags)
    except SystemExit as stop:
        given = stop.code
    assert given == status
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert not list(Path().iterdir())
    return error


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model", "mobilnet_v2"], "did you mean 'mobilenet_v2'"),
        (["--recipe", "digit"], "did you mean 'digits'"),
        (["--alpha", "0", "--model", "v2"], "alpha is 0.0; accepted: any number above 0"),
        (["--alpha", "-1", "--model", "v2"], "alpha is -1.0"),
        (["--image-size", "31"], "--image-size is 31; tiny needs 32 or more"),
        (["--batch-size", "0"], "--batch-size is 0; accepted: 1 and more"),
        (["--learning-rate", "-1"], "--learning-rate is -1.0; accepted: numbers above 0"),
        (["--dropout-rate", "1"], "dropout_rate is 1.0"),
        (["--freeze-backbone"], "--freeze-backbone needs --init-from"),
        (["--recipe", "finetune"], "--recipe finetune needs --init-from"),
        (["--batchsize", "3"], "did you mean '--batch-size'"),
        (["--parallel", "shard"], "'jit', 'pmap'"),
        (["--epochs", "many"], "many"),
        (["stray"], "stray"),
        (["--output", "gs://bucket/run"], "accepted: a directory. A bucket can be mounted as one"),
        (["--accumulate", "0"], "--accumulate is 0; accepted: 1 and more"),
        (["--distill-weight", "2"], "--distill-weight is 2.0; accepted: 0 to 1"),
        (["--eval-only", "--output="], "--eval-only needs --init-from WEIGHTS, or --output RUN"),
    ],
)
def test_wrong_flags_and_values_give_one_line_and_status_2(flags, message, capsys):
    assert message in refused([*FLAGS, "--output", "run", *flags], 2, capsys)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--dataset", "digitz"], "did you mean 'digits'"),
        (["--dataset", "folder:nowhere"], "nowhere"),
        (["--dataset", "../flowers"], "for a folder write folder:../flowers"),
        (["--batch-size", "30"], "30 cannot be divided among 8 devices; take 24 or 32"),
        (["--accumulate", "3"], "128 on 8 devices cannot be split into --accumulate 3 parts; take"),
        (["--batch-size", "8", "--mixup", "0.2"], "take a --batch-size that 16 divides, not 8"),
        (["--lr-scale", "stern.*=0"], "--lr-scale stern.*=0 matches no trained parameter"),
        (["--distill-from", "nowhere"], "nowhere is not a weights directory"),
        (["--init-from", "nowhere"], "nowhere is not a weights directory"),
    ],
)
def test_what_does_not_fit_together_gives_one_line_and_status_1(flags, message, capsys):
    assert message in refused([*FLAGS, "--output", "run", *flags], 1, capsys)


def test_help_documents_every_flag_with_its_default(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert not stop.value.code
    text = re.sub(r"[\s│]+", " ", capsys.readouterr().out)  # as wide as the terminal
    for name, default in {"batch-size": "64", "optimizer": "adamw", "seed": "0"}.items():
        assert f"--{name}" in text
        assert f"(default: {default})" in text


def test_without_a_home_that_can_be_written_no_program_is_cached(monkeypatch):
    before = jax.config.jax_compilation_cache_dir
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/none")
    assert main([*FLAGS, "--dataset", "folder:none"]) == 1
    assert jax.config.jax_compilation_cache_dir == before


def test_a_place_that_cannot_be_written_gives_one_line(capsys):
    assert main([*FLAGS, "--output", "/sys/run"]) == 1
    error = capsys.readouterr().err.strip()
    assert "/sys" in error
    assert len(error.splitlines()) == 1
