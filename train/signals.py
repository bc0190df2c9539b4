"""SIGINT and SIGTERM: finish the step, save, then leave."""

import os
import signal
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

from flaxmobile.errors import InputError
from train import PROG

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


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
    """Remember the first SIGINT or SIGTERM in the block; a second one ends the process.

    Attributes:
      received: the signal's number, once there was one.
      nothing_to_lose: everything is on disk, so that a signal ends the process at once. Python's
        own handlers wait for compilation, which takes half a minute.
      leaving: a signal is about to end the process, and says so.
    """

    def __init__(self, advice: str, before_leaving: Callable[[], None] = lambda: None) -> None:
        """Print `advice` where a signal ends the process, after a last call."""
        self.received: int | None = None
        self.nothing_to_lose = True
        self.leaving = False
        self.advice, self.before_leaving = advice, before_leaving
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            self._previous[number] = signal.signal(number, self._remember)
        reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        self._previous_fd = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(reading,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        signal.set_wakeup_fd(self._previous_fd)
        os.close(self._writing)  # ends the thread

    @property
    def exit_status(self) -> int:
        """128 + the signal, as shells report it: 130 for SIGINT, 143 for SIGTERM.

        SIGTERM's too where another process of the run had the signal.
        """
        return 128 + (self.received or signal.SIGTERM)

    def _remember(self, number: int, frame: types.FrameType | None) -> None:
        if self.received is not None:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.received = number

    def _leave(self, status: int) -> None:
        self.leaving = True
        try:
            self.before_leaving()
        except InputError as error:
            os.write(2, f"{PROG}: error: {error}\n".encode())
            os._exit(1)
        os.write(1, f"{self.advice}\n".encode())
        os._exit(status)

    def _watch(self, reading: int) -> None:
        while number := os.read(reading, 1):
            if number[0] in _SIGNALS and self.nothing_to_lose:
                self._leave(128 + number[0])
        os.close(reading)
