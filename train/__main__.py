"""`python -m train`: train or evaluate a network."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from flaxmobile.command.flags import reading_arguments
from flaxmobile.command.streams import run
from train import PROG
from train.signals import exiting_on_ctrl_c


def main(argv: Sequence[str] | None = None, prog: str = PROG) -> int:
    """Run the command and return its exit status."""
    arguments = sys.argv[1:] if argv is None else list(argv)

    def command() -> int:
        from train.config import read_config  # takes a second to import

        with reading_arguments(prog):
            config = read_config(arguments, prog)
        _keep_compiled_programs()
        if config.plan:
            from train.plan import plan

            return plan(config)
        from train.hosts import joined
        from train.loop import train

        with joined(config, prog):
            return train(config)

    with exiting_on_ctrl_c(prog):
        return run(prog, command)


def _keep_compiled_programs() -> None:
    """Cache compiled programs on disk: a second run of the same network starts at once."""
    import jax

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(Path(base) / "flaxmobile" / "xla"))


if __name__ == "__main__":
    sys.exit(main())
