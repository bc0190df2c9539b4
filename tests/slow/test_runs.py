"""Whole runs as users start them, with all defaults: `make test-slow`, hours on two cores."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from flaxmobile.registry import SPECS
from tests.train.command.process import FLAGS, ROOT, lines, losses

pytestmark = pytest.mark.slow

OWN = ("XLA_FLAGS", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
"""Settings of the suite that a user does not have."""
KILLS = 20


def start(module, *flags, output=subprocess.DEVNULL):
    """Start a command in a process of its own, with a user's settings."""
    settings = {name: value for name, value in os.environ.items() if name not in OWN}
    words = [sys.executable, "-m", module, *map(str, flags)]
    environment = {**settings, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT, env=environment)


def train(run, *flags):
    """Train to the end, and return what the run says of the test images."""
    with (run.parent / "log").open("w") as log:
        status = start("train", *flags, "--output", run, output=log).wait()
    assert status == 0, (run.parent / "log").read_text()
    result = json.loads((run / "test.json").read_text())
    print(flags, {name: value for name, value in result.items() if name != "classes"})
    return result


@pytest.mark.parametrize("name", SPECS)
def test_a_network_learns_the_digits(name, tmp_path):
    least = 0.9 if SPECS[name].network.min_image_size >= 71 else 0.95
    assert train(tmp_path / "run", "--model", name)["accuracy"] >= least


@pytest.mark.parametrize(
    ("task", "quality", "least"), [("segment", "miou", 0.7), ("detect", "map", 0.5)]
)
def test_a_head_learns_the_scenes(task, quality, least, tmp_path):
    assert train(tmp_path / "run", "--task", task)[quality] >= least


def test_a_run_that_is_killed_at_any_moment_has_the_same_losses_to_the_bit(tmp_path):
    flags = [
        *FLAGS,
        "--epochs",
        80,
        "--checkpoint-every",
        7,
        "--workers",
        0,
        "--resume",
        "--output",
    ]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start("tests.train.tiny", *flags, whole).wait() == 0
    moments, reached = random.Random(0), [0]
    while len(reached) <= KILLS:
        process = start("tests.train.tiny", *flags, killed)
        while newest(killed) <= reached[-1]:
            assert process.poll() is None
            time.sleep(0.02)
        time.sleep(moments.uniform(0, 1.5))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL  # it had not ended before
        reached.append(newest(killed))
    assert all(before < after for before, after in pairwise(reached))
    assert start("tests.train.tiny", *flags, killed).wait() == 0
    for split in ("train", "validation", "test"):
        assert losses(killed, split) == losses(whole, split)
        assert len(lines(killed, split)) == len(lines(whole, split))


def test_memory_and_open_files_do_not_grow_over_50_epochs(tmp_path):
    flags = ["--epochs", 50, "--output", tmp_path / "run"]
    kilobytes, files, threads = [], [], []
    with start("train", *flags, output=subprocess.PIPE) as process:
        place = Path("/proc", str(process.pid))
        for line in process.stdout:
            if re.match(rb"epoch \d+: validation", line):
                status = (place / "status").read_text()
                kilobytes.append(int(status.partition("VmRSS:")[2].split()[0]))
                files.append(len(list((place / "fd").iterdir())))
                threads.append(len(list((place / "task").iterdir())))
    assert process.returncode == 0
    print("kilobytes", kilobytes, "files", files[::10], "threads", threads[::10])
    assert kilobytes[49] <= 1.05 * kilobytes[9]
    assert files[49] <= files[9]
    assert threads[49] <= threads[9] + 2  # of Orbax's pool


def newest(run):
    """The last step that a run has reported, perhaps while it writes the line."""
    if not (run / "metrics.jsonl").exists():
        return 0
    text = (run / "metrics.jsonl").read_text()
    whole = text[: text.rfind("\n") + 1].splitlines()
    return max([json.loads(line)["step"] for line in whole], default=0)
