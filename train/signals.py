"""SIGINT and SIGTERM: finish the step, save, then leave."""

import os
import signal
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self


@contextmanager
def exiting_on_ctrl_c(prog: str) -> Iterator[None]:
    """Let Ctrl-C end the process: before the first checkpoint there is nothing to save.

    Python's KeyboardInterrupt may be raised in a callback of JAX or TFDS, which swallow it.
    """

    def leave(number: int, frame: types.FrameType | None) -> None:
        os.write(2, f"{prog}: interrupted\n".encode())
        os._exit(128 + number)

    previous = signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


class StopSignals:
    """Remember the first SIGINT or SIGTERM in the block; a second one ends the process."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    @property
    def exit_status(self) -> int:
        """128 + the signal, as shells report it: 130 for SIGINT, 143 for SIGTERM."""
        return 0 if self.received is None else 128 + self.received

    def _remember(self, number: int, frame: types.FrameType | None) -> None:
        if self.received is not None:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.received = number
