"""Processes of candidates, driven by `flaxmobile.bench.measure`."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from flaxmobile.bench.job import Job
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


class Process:
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
