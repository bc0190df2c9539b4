"""The process of one candidate, driven by `flaxmobile.bench.measure`."""

import json
import os
import sys
import time
from pathlib import Path

import jax
import numpy as np

from flaxmobile.bench.candidates import Candidate, Missing, build
from flaxmobile.bench.job import Job, expected_path

_MIN_SECONDS = 0.2
"""Shorter calls are measured several at a time, after as many unmeasured ones: the caches and the
processor's clock must adapt to this candidate again after the others."""


def main() -> None:
    """Build the candidate, save its outputs, and time a call for every line on stdin.

    The task "compile" ends after compilation.
    """
    job, outputs = Job(**json.loads(sys.argv[1])), sys.argv[2]
    # Libraries print to stdout too: answers get a copy of it, the rest goes to stderr.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**values: object) -> None:
        print(json.dumps(values), file=answers, flush=True)

    try:
        candidate = build(job)
    except Missing as missing:
        answer(reason=str(missing))
        return
    begin = time.perf_counter()
    candidate.prepare()
    preparation = time.perf_counter() - begin
    if job.task == "compile":
        answer(seconds=preparation, memory=candidate.memory())
        return
    first = candidate.fetch(candidate.call())
    np.save(outputs, first.astype(np.float64))  # .npy files have no bfloat16
    expected = candidate.expected()
    if expected is not None:
        np.save(expected_path(Path(outputs)), expected)
    _seconds(candidate, 2)
    repeats = max(1, round(_MIN_SECONDS / _seconds(candidate, 1)))
    answer(
        preparation=preparation,
        memory=candidate.memory(),
        device=jax.devices()[0].device_kind,
        tolerance=candidate.tolerance(job),
        file_size=candidate.file_size(),
    )
    for _ in sys.stdin:
        _seconds(candidate, repeats)
        answer(seconds=_seconds(candidate, repeats) / repeats)


def _seconds(candidate: Candidate, calls: int) -> float:
    """Time some calls: one after the other, or on an accelerator as a queue of them."""
    queued = jax.default_backend() != "cpu"
    begin = time.perf_counter()
    for number in range(1, calls + 1):
        outputs = candidate.call()
        if number == calls or not queued:
            candidate.fetch(outputs)
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
