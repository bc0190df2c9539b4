"""The files of a run by their paths in its directory: which are copied, in which order."""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

OWNER = "owner.json"
"""Says which run this is, and which process writes it into a bucket."""

Version = tuple[int, int]
"""Size of a file in bytes, and its time in nanoseconds."""

_CHECKPOINT = re.compile(r"checkpoints/(\d+)/.+")
_MARK = re.compile(r"checkpoints/(\d+)/_CHECKPOINT_METADATA")


def list_run(directory: Path) -> dict[str, Version]:
    """Return the version of each file of a run that is to be copied.

    Drafts, links and incomplete or damaged checkpoints are not.
    """
    found = {}
    for top, folders, names in os.walk(directory):
        below = Path(top).relative_to(directory)
        folders[:] = [name for name in folders if not name.startswith(".")]
        if below == Path("checkpoints"):
            folders[:] = [name for name in folders if name.isdigit()]
        for name in names:
            path = Path(top, name)
            if name.startswith(".") or path.is_symlink() or path == directory / OWNER:
                continue
            try:
                status = path.stat()
            except FileNotFoundError:  # replaced meanwhile
                continue
            found[(below / name).as_posix()] = (status.st_size, status.st_mtime_ns)
    return found


def is_mark(name: str) -> bool:
    """Tell whether a checkpoint with this file is complete: it is copied last, removed first."""
    return _MARK.fullmatch(name) is not None


def rank(name: str) -> int:
    """Rank a file in the order of copying: a checkpoint follows the best weights it refers to.

    Within the best weights the files with new names go before those that are replaced.
    """
    if _CHECKPOINT.fullmatch(name):
        return 3 if is_mark(name) else 2
    return int(name.startswith("best/") and "/d/" not in name)


def grouped(names: Iterable[str], key: Callable[[str], int]) -> Iterator[list[str]]:
    """Group names by a key, its smallest value first."""
    names = list(names)
    for value in sorted({*map(key, names)}):
        yield [name for name in names if key(name) == value]


def complete(names: Iterable[str]) -> list[str]:
    """Leave out the checkpoints that are not complete."""
    names = list(names)
    steps = {match[1] for name in names if (match := _MARK.fullmatch(name))}
    return [n for n in names if not (m := _CHECKPOINT.fullmatch(n)) or m[1] in steps]


def newest_step(names: Iterable[str]) -> int:
    """Return the step of the newest complete checkpoint, or -1."""
    return max((int(match[1]) for name in names if (match := _MARK.fullmatch(name))), default=-1)


def run_id(directory: Any) -> str | None:
    """Return the identity of the run in a directory (`Path`), if it has one."""
    try:
        identity: str = json.loads((directory / OWNER).read_text())["run"]
    except (FileNotFoundError, ValueError, KeyError):
        return None
    return identity
