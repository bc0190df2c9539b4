"""Exit status and streams of a command: an error that a user can mend is one line on stderr."""

import errno
import io
import os
import select
import sys
from collections.abc import Callable

from flaxmobile.errors import InputError
from flaxmobile.tpu import set_up_without_chip

_MENDABLE = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG,
    errno.ENOTDIR, errno.EISDIR, errno.ENOENT, errno.EEXIST, errno.ENAMETOOLONG, errno.EMFILE,
}  # fmt: skip


def run(prog: str, main: Callable[[], int | None]) -> int:
    """Run a command and return its exit status.

    An InputError, a refused file operation and a full disk print one line and give 1; Ctrl-C
    gives 130. Any other exception is a defect and keeps its traceback.
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
    except SystemExit:  # of a wrong flag, or after --help
        _flush_or_discard_stdout()
        raise
    except BrokenPipeError:
        if not _reader_has_left():
            raise
        _flush_or_discard_stdout()
    except OSError as error:
        if error.errno not in _MENDABLE:
            raise
        where = f": {error.filename}" if error.filename else ""
        print(f"{prog}: error: {error.strerror}{where}", file=sys.stderr)
        _flush_or_discard_stdout()  # the full disk may be the one that our output goes to
    return 1


def _reader_has_left() -> bool:
    """Tell whether stdout is a pipe that nobody reads, as in `flaxmobile list | head -1`."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))


def _flush_or_discard_stdout() -> None:
    """Flush stdout, or discard the rest: otherwise Python tries again on exit, and complains."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
