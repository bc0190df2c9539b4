"""Candidates in turn, each in a process of its own: A B C A B C …"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from flaxmobile.errors import InputError

ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "500000000",
}
"""glibc keeps freed memory: page faults on fresh buffers cost more than the arithmetic.

Torch gains most by it; every candidate gets it.
"""


@dataclass(frozen=True)
class Job:
    """What a candidate is to do.

    Attributes:
      candidate: a name of `bench.candidates.CANDIDATES`.
      task: "inference" or "train".
      model: registered name of the network.
      options: of `create_model`.
      batch_size: images per call.
      image_size: side of the images in pixels.
      threads: that it may use.
    """

    candidate: str
    task: str
    model: str
    options: dict[str, Any]
    batch_size: int
    image_size: int
    threads: int


class Result(NamedTuple):
    """What was measured of a candidate.

    Attributes:
      times: seconds of each measured call, in the order of the rounds.
      first_call: seconds until the first call had returned: tracing and compilation.
      memory: bytes of temporary memory of the compiled program, where the candidate knows it.
      reason: why there are no times; empty where there are.
    """

    times: tuple[float, ...]
    first_call: float
    memory: int | None
    reason: str

    @property
    def median(self) -> float:
        """Seconds of a call."""
        return float(np.median(self.times))

    @property
    def spread(self) -> float:
        """Half of the distance of the quartiles, as a share of the median."""
        low, high = np.percentile(self.times, [25, 75])
        return float((high - low) / 2 / self.median)


class _Process:
    """A candidate in a process: answers a line for a line."""

    def __init__(self, job: Job, directory: Path) -> None:
        self.outputs = directory / f"{job.candidate}.npy"
        words = [sys.executable, "-m", "bench.worker", json.dumps(asdict(job)), str(self.outputs)]
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **ALLOCATOR, "OMP_NUM_THREADS": str(job.threads)},
        )

    def answer(self, request: str = "") -> dict[str, Any]:
        """Send a request, wait for the answer; an empty one waits for the start."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if request:
            self._process.stdin.write(request + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise InputError(f"the process ended with status {self._process.wait()}")
        return json.loads(line)

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


def measure(jobs: Sequence[Job], rounds: int) -> dict[str, Result]:
    """Run candidates side by side.

    They are started one after the other, their outputs compared, and then called in turn.

    Args:
      jobs: the first is the one that the others are compared with.
      rounds: measured calls of each.

    Raises:
      InputError: two candidates do not compute the same.
    """
    processes: dict[str, _Process] = {}
    started: dict[str, Any] = {}
    times: dict[str, list[float]] = {}
    with TemporaryDirectory() as directory:
        try:
            for job in jobs:
                process = processes[job.candidate] = _Process(job, Path(directory))
                answer = started[job.candidate] = process.answer()
                if "reason" not in answer:
                    times[job.candidate] = []
            _check_same({name: processes[name].outputs for name in times})
            for _ in range(rounds):
                for name, measured in times.items():
                    measured.append(processes[name].answer("run")["seconds"])
        finally:
            for process in processes.values():
                process.stop()
    return {
        name: Result(
            tuple(times.get(name, ())),
            answer.get("first_call", 0.0),
            answer.get("memory"),
            answer.get("reason", ""),
        )
        for name, answer in started.items()
    }


def _check_same(outputs: Mapping[str, Path], tolerance: float = 1e-3) -> None:
    """Every candidate must have computed the numbers of the first, to a share of the largest."""
    arrays = {name: np.load(path) for name, path in outputs.items()}
    names = list(arrays)
    for name in names[1:]:
        first, other = arrays[names[0]], arrays[name]
        error = np.abs(first - other).max() / np.abs(first).max()
        if not error <= tolerance:
            raise InputError(
                f"{name} does not compute what {names[0]} computes: the outputs differ by "
                f"{error:.1e} of the largest"
            )
