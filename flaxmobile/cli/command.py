"""What every command does alike: parse flags, and turn mendable errors into one line."""

import contextlib
import errno
import io
import os
import re
import select
import sys
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar, cast

from flaxmobile.errors import InputError, nearest
from flaxmobile.tpu import set_up_without_chip

Config = TypeVar("Config")


def parse(
    config: type[Config], argv: Sequence[str], prog: str, default: Config | None = None
) -> Config:
    """Parse a command line into a dataclass, over the fields of `default` where it is given.

    `--help` documents every field with its default. A wrong flag or value prints one line that
    says what is accepted and exits with status 2.
    """
    import tyro  # here, because it takes longer than `flaxmobile --help` needs

    flags = [
        "--" + name.replace("_", "-")
        for name, hint in typing.get_type_hints(config, include_extras=True).items()
        if tyro.conf.Positional not in getattr(hint, "__metadata__", ())
    ]
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            parsed, rest = tyro.cli(
                config, args=list(argv), prog=prog, default=default, return_unknown_args=True
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        # A required flag that is misspelt is missing too, which is not what helps.
        accepted = {"--help", *flags, *(flag.replace("--", "--no-", 1) for flag in flags)}
        names = {arg: arg.partition("=")[0].replace("_", "-") for arg in argv if arg[:2] == "--"}
        _refuse_unknown(prog, [arg for arg in names if names[arg] not in accepted], flags)
        _refuse(prog, _first_paragraph(errors.getvalue()))
    _refuse_unknown(prog, rest, flags)
    return cast(Config, parsed)


def _refuse_unknown(prog: str, arguments: Sequence[str], flags: Sequence[str]) -> None:
    if arguments:
        flag = arguments[0].partition("=")[0].replace("_", "-")
        _refuse(prog, f"unknown argument {arguments[0]!r}{nearest(flag, flags)}")


def run(prog: str, main: Callable[[], int | None]) -> int:
    """Run a command and return its exit status.

    An InputError, a refused file operation and a full disk print one line and give 1; Ctrl-C
    gives 130. Anything else is a defect and keeps its traceback.
    """
    set_up_without_chip()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file name or a class name may not fit the terminal's encoding.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = main() or 0
        sys.stdout.flush()
        return status
    except InputError as error:
        print(f"{prog}: error: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"{prog}: interrupted", file=sys.stderr)
        return 130
    except SystemExit:  # from `parse`
        _settle_stdout()
        raise
    except BrokenPipeError:
        if not _reader_has_left():
            raise
        _settle_stdout()
    except OSError as error:
        if error.errno not in _MENDABLE:
            raise
        where = f": {error.filename}" if error.filename else ""
        print(f"{prog}: error: {error.strerror}{where}", file=sys.stderr)
        _settle_stdout()  # the full disk may be the one that our output goes to
    return 1


def _reader_has_left() -> bool:
    """Say whether stdout is a pipe that nobody reads, as in `flaxmobile list | head -1`."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))


def _settle_stdout() -> None:
    """Write what is left of our output, or nowhere: Python tries on exit too, and complains."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def reading_arguments(prog: str) -> Iterator[None]:
    """Within: an InputError is about the command line itself, so it exits with status 2."""
    try:
        yield
    except InputError as error:
        _refuse(prog, str(error))


_MENDABLE = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG,
    errno.ENOTDIR, errno.EISDIR, errno.ENOENT, errno.EEXIST, errno.ENAMETOOLONG,
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
    return " ".join(message).partition("Got errors:")[0].strip().rstrip(".")
