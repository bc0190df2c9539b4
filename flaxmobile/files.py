"""Files and directories that appear complete or not at all."""

import atexit
import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

_QUIET = 1.0  # seconds without a late write after which a failed draft counts as gone
_LONGEST = 10.0  # seconds after which it is left


@contextlib.contextmanager
def written_at_once(path: Path, *, new: bool = False) -> Iterator[Path]:
    """Yield the path of a draft to write, which replaces `path` at the end.

    The draft may be a file or a directory; its parent must exist. After an error `path` is as it
    was and the draft is gone. An OSError about the draft names `path` instead.

    Args:
      path: where.
      new: refuse to replace a directory that is not empty.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    _remove(draft)
    try:
        yield draft
        if new:
            draft.rename(path)
        else:
            _replace(path, draft)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename is not None:
            error.filename = str(error.filename).replace(str(draft), str(path))
        if draft.is_dir():
            _remove_for_good(draft)
        _remove(draft)
        raise


def _replace(path: Path, draft: Path) -> None:
    if not (path.is_dir() and draft.is_dir()):
        draft.replace(path)
        return
    old = draft.with_suffix(".old")  # a directory cannot replace one that is not empty
    path.rename(old)
    draft.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def _remove(draft: Path) -> None:
    if draft.is_dir():
        shutil.rmtree(draft, ignore_errors=True)
    else:
        draft.unlink(missing_ok=True)


def _remove_for_good(draft: Path) -> None:
    """Remove a draft whose writing failed.

    The threads of a store are not stopped by the failure of one of them: a late one makes its
    directory again. So the draft has to be away for a while.
    """
    seen = time.monotonic()
    end = seen + _LONGEST
    while time.monotonic() < min(seen + _QUIET, end):
        if draft.exists():
            _remove(draft)
            seen = time.monotonic()
        time.sleep(0.02)
    atexit.register(_remove, draft)
