"""The command in a process of its own, and what its run wrote."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.xla import QUICK

ROOT = Path(__file__).parents[3]
FLAGS = ["--model", "tiny", "--image-size", "32", "--log-every", "1", "--batch-size", "128"]
STEPS = 20  # 9 to an epoch


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


def losses(directory, split="train"):
    return {line["step"]: line["loss"] for line in lines(directory, split)}
