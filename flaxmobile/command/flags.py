"""Flags of a command, from a dataclass, and the messages for wrong ones."""

import contextlib
import inspect
import io
import os
import re
import sys
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from flaxmobile.command.groups import from_groups, in_groups
from flaxmobile.errors import InputError, flag, nearest

Config = TypeVar("Config")

PICTURES = (".png", ".pdf", ".svg")


def parse(
    config: type[Config], argv: Sequence[str], prog: str, default: Config | None = None
) -> Config:
    """Parse a command line into a dataclass, over the fields of `default` if there is one.

    `--help` documents every field with its default, in a group for each class that declares some. A
    wrong flag or value prints one line that says what is accepted and exits with status 2.
    """
    import tyro  # here, because it takes longer than `flaxmobile --help` needs

    hints = typing.get_type_hints(config, include_extras=True)
    flags = [
        flag(name)
        for name, hint in hints.items()
        if tyro.conf.Positional not in getattr(hint, "__metadata__", ())
    ]
    errors = io.StringIO()
    parsed: Any
    try:
        with contextlib.redirect_stderr(errors):
            parsed, rest = tyro.cli(
                in_groups(config, hints, default),
                args=list(argv),
                prog=prog,
                description=inspect.getdoc(config),
                return_unknown_args=True,
                # Who wants no value leaves the flag out.
                config=(tyro.conf.DisallowNone, tyro.conf.OmitArgPrefixes),
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        # A misspelt required flag is also reported as missing; report the misspelling.
        accepted = {"--help", *flags, *(each.replace("--", "--no-", 1) for each in flags)}
        names = {arg: arg.partition("=")[0].replace("_", "-") for arg in argv if arg[:2] == "--"}
        _refuse_unknown(prog, [arg for arg in names if names[arg] not in accepted], flags)
        _refuse(prog, _first_paragraph(errors.getvalue()))
    _refuse_unknown(prog, rest, flags)
    values: Config = from_groups(config, parsed)
    return values


def _refuse_unknown(prog: str, arguments: Sequence[str], flags: Sequence[str]) -> None:
    if arguments:
        spelled = arguments[0].partition("=")[0].replace("_", "-")
        _refuse(prog, f"unknown argument {arguments[0]!r}{nearest(spelled, flags)}")


@contextlib.contextmanager
def reading_arguments(prog: str) -> Iterator[None]:
    """Treat an InputError as an error of the command line itself, which exits with status 2."""
    try:
        yield
    except InputError as error:
        _refuse(prog, str(error))


def check_writable(flag: str, path: Path, suffixes: Sequence[str] = ()) -> None:
    """Check that the file which a flag names can be written, before the work that fills it.

    Raises:
      InputError: another suffix than those accepted, if any are given, or no directory to write in.
    """
    if suffixes and path.suffix.lower() not in suffixes:
        raise InputError(f"{flag} is {path}; accepted: a file name in {', '.join(suffixes)}")
    if not os.access(path.absolute().parent, os.W_OK):
        raise InputError(f"{flag} is {path}, but {path.parent} is no directory to write in")


def _refuse(prog: str, message: str) -> None:
    print(f"{prog}: error: {message}; {prog} --help lists what is accepted", file=sys.stderr)
    raise SystemExit(2)


def _first_paragraph(box: str) -> str:
    """The message of tyro's framed error, on one line."""
    lines = [re.sub(r"^[│|]\s?|\s*[│|]$", "", line).strip() for line in box.splitlines()[1:]]
    message = []
    for line in lines:
        if set(line) & set("─╰"):
            break
        message.append(line)
    return " ".join(message).partition("Got errors:")[0].strip().rstrip(".")
