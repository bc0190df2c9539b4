"""Signals, a full disk, losses that are not finite, and patience."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import train.loop
from flaxmobile import load_metadata
from tests.train.command.process import FLAGS, ROOT, lines, losses
from train.__main__ import main

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


def test_what_does_not_fit_into_memory_is_said(monkeypatch, capsys):
    def fit(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes")

    monkeypatch.setattr(train.loop.Trainer, "fit", fit)
    assert main([*FLAGS, "--output", "run"]) == 1
    assert "out of memory with 128 images in a batch: take a smaller" in capsys.readouterr().err


def test_a_loss_that_is_not_finite_stops_and_keeps_the_good_checkpoint(capsys):
    flags = [*FLAGS, "--steps", "30", "--learning-rate", "1e30", "--schedule", "constant"]
    flags += ["--optimizer", "sgd", "--warmup-epochs", "0", "--checkpoint-every", "1"]
    assert main([*flags, "--output", "run"]) == 1
    error = capsys.readouterr().err
    assert "at step 2" in error
    assert "steps 1." in error
    assert [path.name for path in Path("run/checkpoints").iterdir()] == ["1"]
    assert all(np.isfinite(loss) for loss in losses("run").values())


def test_steps_that_are_not_finite_are_skipped_as_often_as_allowed(capsys):
    flags = [*FLAGS, "--steps", "30", "--learning-rate", "1e30", "--schedule", "constant"]
    flags += ["--optimizer", "sgd", "--warmup-epochs", "0", "--skip-nonfinite", "2"]
    assert main([*flags, "--output", "run"]) == 1
    out, error = capsys.readouterr()
    assert "step 2 is skipped" in out
    assert "(2 of 2 in a row)" in out
    assert "at step 4: training stopped" in error


def test_patience_ends_a_run_that_no_longer_improves():
    flags = [*FLAGS, "--epochs", "9", "--patience", "2", "--learning-rate", "1e-12"]
    assert main([*flags, "--best-by", "loss", "--no-norm-warmup", "--output", "run"]) == 0
    validated = [line["step"] for line in lines("run", "validation")]
    assert 9 < validated[-1] < 81
    best = min(lines("run", "validation"), key=lambda line: line["loss"])
    assert load_metadata("run/best").source["step"] == best["step"]
    assert validated[-1] - best["step"] == 18
