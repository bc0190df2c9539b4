"""Progress of a run: a bar on a terminal and in notebooks, lines in logs."""

import sys
import time
from collections.abc import Callable
from typing import Protocol

from tqdm.auto import tqdm

_INTERVAL = 30.0
"""Seconds between two lines of a log."""


class ProgressBar(Protocol):
    """What shows how far a run is: tqdm's interface, as far as it is used."""

    def set_postfix_str(self, s: str, refresh: bool) -> None:
        """Set the text about the last step."""

    def update(self) -> None:
        """Count a step."""

    def close(self) -> None:
        """End."""


class ProgressLines:
    """A line every half minute and at the last step, with the time left of the whole run."""

    def __init__(
        self, total: int, initial: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Count from `initial` to `total` steps."""
        self._total, self._step, self._clock = total, initial, clock
        self._text = ""
        self._shown = clock()
        self._first: tuple[int, float] | None = None

    def set_postfix_str(self, s: str, refresh: bool) -> None:
        """Set the text about the last step."""
        self._text = s

    def update(self) -> None:
        """Count a step, and print a line if it is time."""
        self._step += 1
        now = self._clock()
        if self._first is None:  # the first step has waited for compilation
            self._first = self._step, now
        if now - self._shown < _INTERVAL and self._step < self._total:
            return
        self._shown = now
        step, begin = self._first
        left = "?"
        if self._step > step or self._step == self._total:
            rate = (now - begin) / max(1, self._step - step)  # validation included
            left = tqdm.format_interval(rate * (self._total - self._step))
        print(
            f"step {self._step} of {self._total}, {self._text}, {left} left",
            file=sys.stderr,
            flush=True,
        )

    def close(self) -> None:
        """End without a line: what follows says how it ended."""


def open_progress(total: int, initial: int) -> ProgressBar:
    """Show steps from `initial` to `total` as suits where the output goes."""
    if sys.stderr.isatty() or "ipykernel" in sys.modules:
        bar: ProgressBar = tqdm(
            total=total, initial=initial, unit="step", mininterval=0.5, dynamic_ncols=True
        )
        return bar
    return ProgressLines(total, initial)
