"""Answers of `flaxmobile predict`: JSON and CSV for machines, lines of a video for people."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from flaxmobile.prediction import Frame

Answer = Mapping[str, Any]
"""A class or an object: index, class, a number, and for an object its box and keypoints."""

Answered = tuple[dict[str, Any], Sequence[Answer]]
"""What an image is called, and its answers."""

_NUMBERS = ("probability", "share", "value")


def label(image: Path | Frame) -> dict[str, Any]:
    """Return what an image is called: its name, and of a video's frame the time in seconds."""
    if isinstance(image, Frame) and image.time is not None:
        return {"image": image.name, "time": round(image.time, 3)}
    return {"image": str(image)}


def in_json(images: Sequence[Path | Frame], answers: Sequence[Sequence[Answer]]) -> str:
    """Write a JSON array with an object for each image."""
    array = [
        label(image) | {"predictions": list(each)}
        for image, each in zip(images, answers, strict=True)
    ]
    return json.dumps(array, indent=2)


def in_csv(images: Sequence[Path | Frame], answers: Sequence[Sequence[Answer]]) -> str:
    """Write a head and a row for each answer; an image without any has a row of its name alone."""
    rows = [
        row
        for image, each in zip(images, answers, strict=True)
        for row in _rows(label(image), each)
    ]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    return _csv_text([dict(zip(columns, columns, strict=True)), *rows], columns)


def print_answers(
    answered: Iterable[Answered], form: Literal["json", "csv", "text"], number: str
) -> None:
    """Print the answers of each image as soon as there are any: JSON, CSV, or a line for people.

    Nothing is printed before the first, and a JSON array is closed whatever ends it.

    Args:
      answered: the answers of each image.
      form: of what is printed.
      number: format of the numbers of a line.
    """
    if form == "csv":
        _print_csv(answered)
        return
    opening = "["
    try:
        for image, answers in answered:
            if form == "json":
                print(opening + json.dumps(image | {"predictions": list(answers)}), flush=True)
                opening = ","
            else:
                print(_line(image, answers, number), flush=True)
    finally:
        if opening == ",":
            print("]", flush=True)


def _print_csv(answered: Iterable[Answered]) -> None:
    """Print rows as they come; the first answer that there is has the names of the columns."""
    rows: list[dict[str, Any]] = []
    columns: list[str] = []
    for image, answers in answered:
        rows += _rows(image, answers)
        if answers and not columns:
            columns = list(rows[-1])
            print(_csv_text([dict(zip(columns, columns, strict=True))], columns))
        if columns:
            print(_csv_text(rows, columns), flush=True)
            rows = []
    if rows:
        columns = list(rows[-1])
        print(_csv_text([dict(zip(columns, columns, strict=True)), *rows], columns))


def _csv_text(rows: Iterable[dict[str, Any]], columns: Sequence[str]) -> str:
    text = io.StringIO()
    csv.DictWriter(text, columns, lineterminator="\n").writerows(rows)
    return text.getvalue().rstrip("\n")


def _line(image: dict[str, Any], answers: Sequence[Answer], number: str) -> str:
    name = image["image"] + (f" at {image['time']:.2f} s" if "time" in image else "")
    return f"{name}: {', '.join(_words(each, number) for each in answers) or 'nothing found'}"


def _words(answer: Answer, number: str) -> str:
    value = next(answer[name] for name in _NUMBERS if name in answer)
    sides = ", ".join(f"{side:.0f}" for side in answer.get("box", {}).values())
    return f"{answer['class']} {value:{number}}" + (f" ({sides})" if sides else "")


def _rows(image: dict[str, Any], answers: Sequence[Answer]) -> list[dict[str, Any]]:
    return [image | dict(_flat(answer)) for answer in answers] or [image]


def _flat(answer: Answer) -> Iterator[tuple[str, Any]]:
    """Give sides of a box and coordinates of keypoints columns of their own."""
    for name, value in answer.items():
        if isinstance(value, Mapping):
            yield from _flat(value)
        elif isinstance(value, tuple):
            yield from zip((f"{name}_x", f"{name}_y"), value, strict=True)
        else:
            yield name, value
