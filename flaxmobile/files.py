"""Files and directories that appear complete or not at all."""

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path


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
    except OSError as error:
        if error.filename is not None:
            error.filename = str(error.filename).replace(str(draft), str(path))
        raise
    finally:
        _remove(draft)


def _replace(path: Path, draft: Path) -> None:
    if not (path.is_dir() and draft.is_dir()):
        draft.replace(path)
        return
    old = draft.with_suffix(".old")  # a directory cannot replace one that is not empty
    path.rename(old)
    draft.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def _remove(draft: Path) -> None:
    """Remove a draft; a store's threads may go on writing into it for a moment."""
    for _ in range(50):
        if draft.is_dir():
            shutil.rmtree(draft, ignore_errors=True)
        else:
            draft.unlink(missing_ok=True)
        if not draft.exists():
            return
        time.sleep(0.05)
