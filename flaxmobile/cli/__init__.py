"""The `flaxmobile` command: one module per subcommand, here or in the subcommand's package.

A module is imported when its command runs, so that `flaxmobile --help` is instant. It has
`main(prog, argv)`, which prints to stdout and raises InputError for errors that a user can mend.
"""

import importlib
import sys
from collections.abc import Sequence

from flaxmobile.command.streams import run
from flaxmobile.errors import unknown
from flaxmobile.versions import __version__

COMMANDS = {
    "list": "show every network, or with --pretrained all published weights",
    "info": "explain a network: paper, figures, every option",
    "summary": "count a network's parameters and multiply-adds, layer by layer",
    "plot-filters": "draw the first and the depthwise kernels, and count the dead ones",
    "predict": "classify images with a weights directory",
    "export": "write a network for phones, ONNX Runtime, JAX or TensorFlow Serving",
    "train": "train or evaluate a network (also: python -m train)",
    "pack": "write a data set into a few large files, which train reads faster",
    "convert": "convert published weights (also: python -m convert)",
    "push": "upload a weights directory to the Hugging Face Hub",
    "bench": "measure networks side by side with their peers",
    "doctor": "show versions, devices and extras, and test the numbers of this installation",
}
"""Subcommand -> what it does."""

_ELSEWHERE = {
    "bench": "flaxmobile.bench.command",
    "convert": "convert.__main__",
    "pack": "train.pack",
    "plot-filters": "flaxmobile.cli.filters",
    "train": "train.__main__",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand and return the exit status.

    Args:
      argv: the words after `flaxmobile`, by default those of this process.

    Raises:
      SystemExit: with status 2 for a wrong flag or value, with 0 after a subcommand's `--help`.
    """
    name, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        return run("flaxmobile", lambda: print(_usage()))
    if name == "--version":
        return run("flaxmobile", lambda: print(f"flaxmobile {__version__}"))
    if name not in COMMANDS:
        print(f"flaxmobile: error: {unknown('command', name, COMMANDS)}", file=sys.stderr)
        return 2
    prog = f"flaxmobile {name}"
    module = _ELSEWHERE.get(name, f"{__name__}.{name}")
    return run(prog, lambda: importlib.import_module(module).main(prog=prog, argv=rest))


def _usage() -> str:
    width = max(map(len, COMMANDS))
    return "\n".join(
        [
            "usage: flaxmobile COMMAND …",
            "",
            "The mobile CNN family in JAX and Flax.",
            "",
            *(f"  {name:{width}}  {what}" for name, what in COMMANDS.items()),
            "",
            "`flaxmobile COMMAND --help` documents its flags, `flaxmobile --version` prints the "
            "version.",
        ]
    )
