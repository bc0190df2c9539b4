"""Tables (CSV) of the classes of image files."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from flaxmobile.errors import InputError, shorten, unknown

_CLASS_COLUMNS = (
    "label", "labels", "class", "class_name", "classname", "category", "target", "y", "breed",
    "species", "diagnosis", "predictionstring",
)  # fmt: skip
"""Usual names of the column of classes, in lower case."""

_SEVERAL = ""
"""Stands for the files of a name that several files share."""

_SEARCHED = 100
"""Rows in which the column of files is searched."""


def read_labels(
    tables: Sequence[str],
    files: Iterable[str],
    columns: Sequence[str] = (),
    several: bool = False,
) -> dict[str, tuple[str, ...]]:
    """Read the classes of files from tables.

    Args:
      tables: CSV files, separated by comma, semicolon or tab. A row may name a file by its path
        or the end of its path, with or without suffix.
      files: paths below the data set's folder, with "/".
      columns: header of the column of files and of that of classes. By default the files are in
        the column that names most of them, and the classes in the only other column, or in one
        with a usual name such as label or class.
      several: whether a file may have several classes: in one cell (cat|dog), in several rows, or
        in a column of 0 and 1 for each class.

    Returns:
      File -> its classes, for the files that the tables name; one class unless `several`.

    Raises:
      InputError: a table that cannot be read, has no such columns, or names files that are not
        there or one file twice with two classes.
    """
    known = _by_name(files)
    labels: dict[str, tuple[str, ...]] = {}
    for table in tables:
        missing = []
        for name, found in _read_columns(table, known, columns, several):
            file = known.get(_normal(name))
            if file is None:
                missing.append(name)
                continue
            if file == _SEVERAL:
                raise InputError(f"{table}: {name!r} is the name of several files: write its path")
            classes = tuple(sorted({*labels.get(file, ()), *found}))
            if len(classes) != 1 and not several:
                raise InputError(
                    f"{table}: {name!r} has two classes, {shorten(classes)}: --multi-label allows "
                    "several"
                )
            labels[file] = classes
        if missing:
            raise InputError(
                f"{table} names {len(missing)} files that are not there: {shorten(missing, 4)}"
            )
    return labels


def _by_name(files: Iterable[str]) -> dict[str, str]:
    """Map what a table may call a file to the file."""
    known: dict[str, str] = {}
    for file in files:
        parts = file.split("/")
        for start in range(len(parts)):
            end = "/".join(parts[start:])
            for name in {end, str(PurePosixPath(end).with_suffix(""))}:
                known[name] = _SEVERAL if known.get(name, file) != file else file
    return known


def _normal(name: str) -> str:
    return str(PurePosixPath(name.strip().replace("\\", "/")))


def _read_columns(
    table: str, known: Mapping[str, str], columns: Sequence[str], several: bool
) -> list[tuple[str, list[str]]]:
    """Return the (file, classes) of each row."""
    header, *rows = _read_rows(table)
    if any(_normal(cell) in known for cell in header):  # there is no header
        header, rows = [f"column {place}" for place in range(1, len(header) + 1)], [header, *rows]
    if columns:
        file, label = (_find(table, header, column) for column in columns)
    else:
        file = _file_column(table, header, rows, known)
        if several and (flags := _flag_columns(header, rows, file)):
            return [
                (row[file], [header[k] for k in flags if row[k].strip() == "1"]) for row in rows
            ]
        label = _class_column(table, header, file)
    for number, row in enumerate(rows, 2):
        if len(row) <= max(file, label):
            raise InputError(f"{table}, line {number}: {len(row)} columns instead of {len(header)}")
    # Kaggle's ImageNet has boxes after the class: "n01978287 240 170 260 240".
    words = 1 if header[label].strip().lower() == "predictionstring" else None
    cells = [(row[file], " ".join(row[label].split()[:words])) for row in rows]
    return [(name, _split(cell) if several else [cell]) for name, cell in cells]


def _flag_columns(header: Sequence[str], rows: Sequence[Sequence[str]], file: int) -> list[int]:
    """Return the columns of 0 and 1, if there are several and no others beside the files."""
    others = [place for place in range(len(header)) if place != file]
    flags = all(
        len(row) == len(header) and row[place].strip() in ("0", "1")
        for row in rows
        for place in others
    )
    return others if flags and len(others) > 1 else []


def _split(cell: str) -> list[str]:
    """Split a cell of several classes at | ; or commas, otherwise at spaces."""
    separator = next((sign for sign in "|;," if sign in cell), None)
    return [name.strip() for name in cell.split(separator) if name.strip()]


def _read_rows(table: str) -> list[list[str]]:
    try:
        text = Path(table).expanduser().read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--labels {table} cannot be read: {error}") from None
    separator = max(",;\t", key=text.partition("\n")[0].count)
    rows = [row for row in csv.reader(text.splitlines(), delimiter=separator) if row]
    if not rows:
        raise InputError(f"{table} is empty")
    return rows


def _find(table: str, header: Sequence[str], column: str) -> int:
    if column not in header:
        raise unknown(f"column of {table}", column, header)
    return header.index(column)


def _file_column(
    table: str, header: Sequence[str], rows: Sequence[Sequence[str]], known: Mapping[str, str]
) -> int:
    hits = [
        sum(_normal(row[place]) in known for row in rows[:_SEARCHED] if len(row) > place)
        for place in range(len(header))
    ]
    if not any(hits):
        raise InputError(
            f"no column of {table} names the images (columns: {shorten(header)}); "
            "--label-columns FILE CLASS says which one should"
        )
    return hits.index(max(hits))


def _class_column(table: str, header: Sequence[str], file: int) -> int:
    others = [place for place in range(len(header)) if place != file]
    usual = [place for place in others if header[place].strip().lower() in _CLASS_COLUMNS]
    if len(others) == 1 or len(usual) == 1:
        return (usual or others)[0]
    raise InputError(
        f"{table} has several columns that may hold the classes "
        f"({shorten([header[place] for place in others])}): --label-columns {header[file]} CLASS"
    )
