"""`python -m train`: train or evaluate a network."""

import contextlib
import logging
import os
import sys
import types
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__" and sys.path[0] == str(Path.cwd()) != str(Path(__file__).parents[1]):
    del sys.path[0]  # the user's folder, which may have a train.py or convert.py

from flaxmobile.command.flags import reading_arguments
from flaxmobile.command.streams import run
from train import PROG
from train.signals import exiting_on_ctrl_c


def main(argv: Sequence[str] | None = None, prog: str = PROG) -> int:
    """Run the command and return its exit status."""
    arguments = sys.argv[1:] if argv is None else list(argv)

    def command() -> int:
        from train.flags import read_config  # takes a second to import

        with reading_arguments(prog):
            config = read_config(arguments, prog)
        _keep_compiled_programs()
        _hide_tracebacks_of_stores()
        if config.plan:
            from train.plan import plan

            return plan(config)
        from train.hosts import joined
        from train.loop import train

        with joined(config, prog):
            return train(config)

    with exiting_on_ctrl_c(prog):
        return run(prog, command)


def _hide_tracebacks_of_stores() -> None:
    """Hide Orbax's tracebacks of a full disk: whoever waits for the checkpoint reports it.

    Orbax logs the tracebacks of its threads as well, and its store those of writes that end after
    another one has failed.
    """
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    show = sys.excepthook

    def show_others(
        kind: type[BaseException], error: BaseException, trace: types.TracebackType | None
    ) -> None:
        if str(error) != "Event loop is closed":
            show(kind, error, trace)

    sys.excepthook = show_others


def _keep_compiled_programs() -> None:
    """Cache compiled programs on disk: a second run of the same network starts at once."""
    import jax

    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    with contextlib.suppress(OSError, RuntimeError):  # no home, or one that cannot be written
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        directory = Path(base) / "flaxmobile" / "xla"
        directory.mkdir(parents=True, exist_ok=True)
        if os.access(directory, os.W_OK):
            jax.config.update("jax_compilation_cache_dir", str(directory))


if __name__ == "__main__":
    sys.exit(main())
