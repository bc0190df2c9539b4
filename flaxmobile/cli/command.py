"""What every command does alike: parse flags, and turn mendable errors into one line."""

import contextlib
import dataclasses
import errno
import io
import re
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

import tyro

from flaxmobile.errors import InputError, nearest

Config = TypeVar("Config")


def parse(config: type[Config], argv: Sequence[str], prog: str) -> Config:
    """Parse a command line into a dataclass.

    `--help` documents every field with its default. A wrong flag or value prints one line that
    says what is accepted and exits with status 2.
    """
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            parsed, rest = tyro.cli(config, args=list(argv), prog=prog, return_unknown_args=True)
    except SystemExit as stop:
        if not stop.code:
            raise
        _refuse(prog, _first_paragraph(errors.getvalue()))
    if rest:
        flags = [
            "--" + field.name.replace("_", "-")
            for field in dataclasses.fields(config)  # type: ignore[arg-type]
        ]
        flag = rest[0].partition("=")[0].replace("_", "-")
        _refuse(prog, f"unknown argument {rest[0]!r}{nearest(flag, flags)}")
    return parsed


def run(prog: str, main: Callable[[], int | None]) -> int:
    """Run a command and return its exit status.

    An InputError, a refused file operation and a full disk print one line and give 1; Ctrl-C
    gives 130. Anything else is a defect and keeps its traceback.
    """
    try:
        return main() or 0
    except InputError as error:
        print(f"{prog}: error: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"{prog}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has left, as in `flaxmobile list | head`
    except OSError as error:
        if error.errno not in _MENDABLE:
            raise
        print(f"{prog}: error: {error.strerror}: {error.filename or ''}", file=sys.stderr)
    return 1


_MENDABLE = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG,
    errno.ENOTDIR, errno.EISDIR, errno.ENOENT, errno.EEXIST,
}  # fmt: skip


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
    return " ".join(message).strip().rstrip(".")
