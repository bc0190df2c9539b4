"""A trace of some steps, to see where their time goes: `--profile N`."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import jax

_SKIPPED = 2
"""Steps before the trace, which wait for compilation and for the first images."""


class Profile:
    """Traces steps of a run into a directory; each process writes its own devices."""

    def __init__(self, directory: Path, steps: int | None, say: Callable[[str], None]) -> None:
        """Trace a number of steps, or none; `say` is told where the trace is."""
        self._directory, self._left, self._say = directory, steps or 0, say
        self._taken = 0
        self._running = False

    def step(self, number: int) -> contextlib.AbstractContextManager[Any]:
        """Return the context of a training step."""
        self._taken += 1
        if self._left and not self._running and self._taken > _SKIPPED:
            jax.profiler.start_trace(self._directory)
            self._running = True
        if not self._running:
            return contextlib.nullcontext()
        return jax.profiler.StepTraceAnnotation("train", step_num=number)

    def end_step(self, results: Any) -> None:
        """End the trace after the last step that is wanted, once its results are there."""
        if self._running:
            self._left -= 1
            if not self._left:
                jax.block_until_ready(results)
                self._stop()

    def _stop(self) -> None:
        self._running = False
        jax.profiler.stop_trace()
        self._say(
            f"trace in {self._directory}: open its .trace.json.gz at ui.perfetto.dev, or run "
            f"xprof --logdir {self._directory} (pip install xprof)"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._running:
            self._stop()
