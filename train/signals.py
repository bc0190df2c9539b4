"""SIGINT and SIGTERM: finish the step, save, then leave."""

import os
import signal
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self


@contextmanager
def leaving_at_once(prog: str) -> Iterator[None]:
    """End the process on Ctrl-C: for what comes before there is anything to save.

    Python's own KeyboardInterrupt may come in a callback of JAX's or TFDS's, which lose it.
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
    """Remembers the first SIGINT or SIGTERM while it is entered; the second one acts at once."""

    def __init__(self) -> None:
        """Nothing has been received yet."""
        self.received: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Self:
        """Take over both signals."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *_: object) -> None:
        """Give both signals back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    @property
    def exit_status(self) -> int:
        """128 + the signal, the shell's convention: 130 for SIGINT, 143 for SIGTERM."""
        return 0 if self.received is None else 128 + self.received

    def _remember(self, number: int, frame: types.FrameType | None) -> None:
        if self.received is not None:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.received = number
