"""Answers of `flaxmobile predict` for machines: JSON and CSV."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Answer = Mapping[str, Any]
"""A class or an object: index, class, a number, and for an object its box and keypoints."""


def in_json(paths: Sequence[Path], answers: Sequence[Sequence[Answer]]) -> str:
    """Write a JSON array with an object for each image."""
    array = [
        {"image": str(path), "predictions": list(each)}
        for path, each in zip(paths, answers, strict=True)
    ]
    return json.dumps(array, indent=2)


def in_csv(paths: Sequence[Path], answers: Sequence[Sequence[Answer]]) -> str:
    """Write a head and a row for each answer; an image without any has a row of its name alone."""
    rows = []
    for path, each in zip(paths, answers, strict=True):
        image = {"image": str(path)}
        rows += [image | dict(_flat(answer)) for answer in each] or [image]
    columns = dict.fromkeys(column for row in rows for column in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().rstrip("\n")


def _flat(answer: Answer) -> Iterator[tuple[str, Any]]:
    """Give sides of a box and coordinates of keypoints columns of their own."""
    for name, value in answer.items():
        if isinstance(value, Mapping):
            yield from _flat(value)
        elif isinstance(value, tuple):
            yield from zip((f"{name}_x", f"{name}_y"), value, strict=True)
        else:
            yield name, value
