"""Candidates in turn, each in its own process: A B C A B C …"""

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, Self

import numpy as np

from flaxmobile.errors import InputError

ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "500000000",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
"""glibc keeps freed memory, in large pages: page faults would cost more than the arithmetic.

Every candidate gets it. MobileNetV2's training step at batch 32 took 52 ms per image without the
last line, 430,000 faults each time, and 37 with it; torch's 29 and 24. Each thread keeps its own
heap: with one for all (arena_max) XLA, whose threads allocate in every operation, is 1.2 times
slower, and PyTorch and ONNX Runtime are as fast as before.
"""


_GPU = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
"""Otherwise JAX takes three quarters of a GPU's memory at its start."""

_SECONDS_TO_END = 10

PIPELINE_BATCHES = 24
"""Batches of a call of an input pipeline: many more than any pipeline prefetches."""


@dataclass(frozen=True)
class Job:
    """A task for a candidate.

    Attributes:
      candidate: a name of `flaxmobile.bench.candidates.CANDIDATES`.
      task: "inference", "train", "pipeline" or "compile" (of the training step).
      model: registered name of the network, or of a head.
      options: of `flaxmobile.tasks.build`.
      batch_size: images per call.
      image_size: side of the images in pixels.
      threads: how many it may use.
    """

    candidate: str
    task: str
    model: str
    options: dict[str, Any]
    batch_size: int
    image_size: int
    threads: int

    @property
    def images(self) -> int:
        """Number of images of a call."""
        return self.batch_size * (PIPELINE_BATCHES if self.task == "pipeline" else 1)


class Result(NamedTuple):
    """Measurements of a candidate.

    Attributes:
      times: seconds of each measured call, in the order of the rounds.
      preparation: seconds of tracing and compilation.
      memory: bytes of temporary memory of the compiled program, where the candidate knows it.
      reason: why there are no times; empty where there are.
      device: name of the accelerator, or "cpu".
      file_size: bytes of the file that is run, if there is one.
    """

    times: tuple[float, ...]
    preparation: float
    memory: int | None
    reason: str
    device: str = "cpu"
    file_size: int | None = None

    @property
    def median(self) -> float:
        """Seconds of a call."""
        return float(np.median(self.times))

    @property
    def spread(self) -> float:
        """Half of the distance between the quartiles, as a share of the median."""
        low, high = np.percentile(self.times, [25, 75])
        return float((high - low) / 2 / self.median)


def expected_path(outputs: Path) -> Path:
    """Path at which a candidate saves the outputs expected of it, beside its own."""
    return outputs.with_suffix(".expected.npy")


class _Process:
    """A candidate in its own process, which answers each line with a line."""

    def __init__(self, job: Job, directory: Path, **settings: str) -> None:
        self.outputs = directory / f"{job.candidate}.npy"
        words = [
            sys.executable,
            "-m",
            "flaxmobile.bench.worker",
            json.dumps(asdict(job)),
            str(self.outputs),
        ]
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for this process, which then ends that one
            env={
                **os.environ,
                **ALLOCATOR,
                **_GPU,
                "OMP_NUM_THREADS": str(job.threads),
                "TMPDIR": str(directory),  # removed with all that is in it
                **settings,
            },
        )

    def answer(self, request: str = "") -> dict[str, Any]:
        """Send a request and wait for the answer; without one, wait for the start."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if request:
            self._process.stdin.write(request + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise InputError(self._why_it_ended(self._process.wait()))
        return json.loads(line)

    def _why_it_ended(self, status: int) -> str:
        process = f"the process of {self.outputs.stem}"
        if status != -signal.SIGKILL:
            return f"{process} ended with status {status}"
        return (
            f"{process} was killed, as the system does when memory runs out; take a smaller "
            "--batch-size, or fewer peers with --against"
        )

    def stop(self, seconds: float) -> None:
        """Let the process end by itself for some seconds, then kill it."""
        try:
            self._process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.stop(seconds=0 if kind is KeyboardInterrupt else _SECONDS_TO_END)


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
    with TemporaryDirectory() as directory, ExitStack() as running:
        for job in jobs:
            process = running.enter_context(_Process(job, Path(directory)))
            processes[job.candidate] = process
            answer = started[job.candidate] = process.answer()
            if "reason" not in answer:
                times[job.candidate] = []
        _check_same({name: (processes[name].outputs, started[name]["tolerance"]) for name in times})
        for _ in range(rounds):
            for name, measured in times.items():
                measured.append(processes[name].answer("run")["seconds"])
    return {
        name: Result(
            tuple(times.get(name, ())),
            answer.get("preparation", 0.0),
            answer.get("memory"),
            answer.get("reason", ""),
            answer.get("device", "cpu"),
            answer.get("file_size"),
        )
        for name, answer in started.items()
    }


class Compilation(NamedTuple):
    """Times that a candidate needs to trace and compile.

    Attributes:
      first: seconds of each round in a process that finds no compiled program.
      second: seconds in the next process, which finds the programs on disk.
      memory: see `Result`.
      reason: see `Result`.
    """

    first: list[float]
    second: list[float]
    memory: int | None
    reason: str


def measure_compilation(jobs: Sequence[Job], rounds: int) -> dict[str, Compilation]:
    """Compile in fresh processes, with an empty cache of programs and then with that of the first.

    Args:
      jobs: as for `measure`.
      rounds: pairs of processes of each.
    """
    results = {job.candidate: Compilation([], [], None, "") for job in jobs}
    for _, job in itertools.product(range(rounds), jobs):
        result = results[job.candidate]
        with TemporaryDirectory() as directory:
            for seconds in (result.first, result.second):
                process = _Process(
                    job,
                    Path(directory),
                    JAX_COMPILATION_CACHE_DIR=directory,
                    JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
                    TORCHINDUCTOR_CACHE_DIR=directory,
                )
                with process:
                    answer = process.answer()
                if "reason" in answer:
                    results[job.candidate] = result._replace(reason=answer["reason"])
                    break
                seconds.append(answer["seconds"])
                results[job.candidate] = result._replace(memory=answer["memory"])
    return results


def _check_same(outputs: Mapping[str, tuple[Path, float]]) -> None:
    """Check that every candidate computed the numbers of the first, to a share of the largest.

    A candidate with weights of its own is compared with our network on those weights.

    Args:
      outputs: of each candidate, the file of its outputs, and that share.
    """
    names = list(outputs)
    for name in names[1:]:
        (first_path, _), (path, tolerance) = outputs[names[0]], outputs[name]
        own = expected_path(path)
        first, other = np.load(own if own.exists() else first_path), np.load(path)
        error = np.abs(first - other).max() / np.abs(first).max()
        if not error <= tolerance:
            raise InputError(
                f"{name} does not compute what {names[0]} computes: the outputs differ by "
                f"{error:.1e} of the largest"
            )
