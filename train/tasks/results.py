"""Results of a run's best weights, of any task."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from flaxmobile.errors import InputError
from flaxmobile.files import written_at_once
from train.data.records import Record, Source
from train.tasks.task import Result

_T = TypeVar("_T")


def write_test(path: Path, split: str, result: Result, names: tuple[str, ...]) -> None:
    """Write test.json: the result of a split, and of each class."""
    numbers: dict[str, Any] = {
        "split": split,
        "images": len(result.index),
        "unreadable": result.unreadable,
        **result.means(),
        "classes": result.per_class(names),
    }
    with written_at_once(path) as draft:
        draft.write_text(json.dumps(numbers, indent=2) + "\n")


def read_again(
    source: Source, result: Result, places: Iterable[int], read: Callable[[Record], _T]
) -> Iterator[tuple[int, _T]]:
    """Read images of a result for a picture, without those that have gone meanwhile.

    Args:
      source: the split.
      result: its judgement.
      places: of the images among those that were judged.
      read: a record's image.

    Yields:
      A place, and what was read.
    """
    for place in places:
        try:
            yield place, read(source[int(result.index[place])])
        except InputError:
            continue
