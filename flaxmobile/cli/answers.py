"""Answers of `flaxmobile predict`: JSON and CSV for machines, lines of a video for people."""

import contextlib
import csv
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from flaxmobile.files import written_at_once
from flaxmobile.prediction import Frame

Answer = Mapping[str, Any]
"""A class or an object: index, class, a number, and for an object its box and keypoints."""

Answered = tuple[dict[str, Any], Sequence[Answer]]
"""Name of an image, see `label`, and its answers."""

STDOUT = Path("-")

_NUMBERS = ("probability", "share", "value")


def label(image: Path | Frame) -> dict[str, Any]:
    """Return what an image is called: its name, and of a video's frame the time in seconds."""
    if isinstance(image, Frame) and image.time is not None:
        return {"image": image.name, "time": round(image.time, 3)}
    return {"image": str(image)}


def in_json(answered: Iterable[Answered]) -> str:
    """Write a JSON array with an object for each image."""
    array = [image | {"predictions": list(answers)} for image, answers in answered]
    return json.dumps(array, indent=2)


def through_csv(
    path: Path, answered: Iterable[Answered], *, timed: bool = False
) -> Iterator[Answered]:
    """Pass answers on, and write a row for each; an image without any has a row of its name alone.

    The file is there at the end, whole, and after Ctrl-C with what was answered.

    Args:
      path: of the file; - prints.
      answered: the answers of each image.
      timed: some of the images are frames of videos, with a time.
    """
    interrupted = None
    with _opened(path) as file:
        rows = _Rows(file, timed)
        try:
            for image, answers in answered:
                rows.add(image, answers)
                yield image, answers
        except KeyboardInterrupt as error:  # how a camera ends
            interrupted = error
        rows.close()
    if interrupted:
        raise interrupted


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    if path == STDOUT:
        yield sys.stdout
        return
    with written_at_once(path) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        yield file


class _Rows:
    """Rows as they come; the first answer that there is has the names of the columns."""

    def __init__(self, file: TextIO, timed: bool) -> None:
        self._file = file
        self._columns = ["image", "time"] if timed else ["image"]
        self._writer: Any = None
        self._waiting: list[dict[str, Any]] = []

    def add(self, image: dict[str, Any], answers: Sequence[Answer]) -> None:
        self._waiting += [image | dict(_flat(answer)) for answer in answers] or [image]
        if answers:
            self._columns = list(dict.fromkeys([*self._columns, *self._waiting[-1]]))
        if answers or self._writer:
            self.close()

    def close(self) -> None:
        if self._writer is None:
            self._writer = csv.DictWriter(self._file, self._columns, lineterminator="\n")
            self._writer.writeheader()
        self._writer.writerows(self._waiting)
        self._waiting = []
        self._file.flush()


def print_answers(answered: Iterable[Answered], number: str, *, json_array: bool) -> None:
    """Print the answers of each image as soon as there are any: JSON, or a line for people.

    Nothing is printed before the first, and a JSON array is closed whatever ends it.

    Args:
      answered: the answers of each image.
      number: format of the numbers of a line.
      json_array: print an array with an object for each image.
    """
    opening = "["
    try:
        for image, answers in answered:
            if json_array:
                print(opening + json.dumps(image | {"predictions": list(answers)}), flush=True)
                opening = ","
            else:
                print(_line(image, answers, number), flush=True)
    finally:
        if opening == ",":
            print("]", flush=True)


def _line(image: dict[str, Any], answers: Sequence[Answer], number: str) -> str:
    name = image["image"] + (f" at {image['time']:.2f} s" if "time" in image else "")
    return f"{name}: {', '.join(_words(each, number) for each in answers) or 'nothing found'}"


def _words(answer: Answer, number: str) -> str:
    value = next(answer[name] for name in _NUMBERS if name in answer)
    sides = ", ".join(f"{side:.0f}" for side in answer.get("box", {}).values())
    return f"{answer['class']} {value:{number}}" + (f" ({sides})" if sides else "")


def _flat(answer: Answer) -> Iterator[tuple[str, Any]]:
    """Give sides of a box and coordinates of keypoints columns of their own."""
    for name, value in answer.items():
        if isinstance(value, Mapping):
            yield from _flat(value)
        elif isinstance(value, tuple):
            yield from zip((f"{name}_x", f"{name}_y"), value, strict=True)
        else:
            yield name, value
