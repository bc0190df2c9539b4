"""Candidates in turn, each in its own process: A B C A B C …"""

import itertools
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from flaxmobile.bench.job import Job, expected_path
from flaxmobile.bench.process import Process
from flaxmobile.errors import InputError


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


def measure(jobs: Sequence[Job], rounds: int) -> dict[str, Result]:
    """Run candidates side by side.

    They are started one after the other, their outputs compared, and then called in turn.

    Args:
      jobs: the first is the one that the others are compared with.
      rounds: measured calls of each.

    Raises:
      InputError: two candidates do not compute the same.
    """
    processes: dict[str, Process] = {}
    started: dict[str, Any] = {}
    times: dict[str, list[float]] = {}
    with TemporaryDirectory() as directory, ExitStack() as running:
        for job in jobs:
            process = running.enter_context(Process(job, Path(directory)))
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
                process = Process(
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
