"""metrics.jsonl: a line of numbers for each step that is logged, and for each evaluation."""

import json
import math
from pathlib import Path
from typing import Any

from flaxmobile.files import written_at_once
from train.checkpoints import Progress

Line = dict[str, Any]
"""One line: step, epoch, split, and numbers by name."""


def read_metrics(path: Path) -> list[Line]:
    """Read metrics.jsonl, without lines that a crash or a disk has damaged."""
    return [line for line in map(_read_line, _texts(path)) if line is not None]


def _texts(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines() if path.is_file() else []


def _read_line(text: bytes) -> Line | None:
    try:
        line = json.loads(text)
        numbers = {name: line[name] + 0.0 for name in line if name != "split"}
        known = isinstance(line["split"], str) and numbers["step"] > 0 and numbers["epoch"] > 0
    except (ValueError, TypeError, LookupError):
        return None
    return line if known else None


def truncate(path: Path, progress: Progress) -> int:
    """Drop damaged lines, which are counted, and those that the resumed run will write again."""
    last = {"train": progress.step, "validation": progress.validated}
    read = read_metrics(path)
    damaged = len(_texts(path)) - len(read)
    lines = [line for line in read if line["step"] <= last.get(line["split"], -1)]
    with written_at_once(path) as draft:
        draft.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return damaged


def is_finite(line: Line) -> bool:
    """Tell whether every number of a line is finite."""
    return all(math.isfinite(value) for value in line.values() if isinstance(value, float))
