"""Plain text tables for people."""

import unicodedata
from collections.abc import Collection, Sequence

RULE = "─"
"""Pass this as a row to draw a line across the table."""


def format_table(rows: Sequence[Sequence[str] | str], right: Collection[int] = ()) -> str:
    """Lay rows of cells out in columns two spaces apart.

    Args:
      rows: cells of each row, or `RULE`.
      right: numbers of the columns that are aligned at the right.
    """
    cells = [row for row in rows if not isinstance(row, str)]
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    lines = [row if isinstance(row, str) else _line(row, widths, right) for row in rows]
    longest = max(_width(line) for line in lines)
    return "\n".join(RULE * longest if line == RULE else line for line in lines)


def _line(row: Sequence[str], widths: Sequence[int], right: Collection[int]) -> str:
    padded = []
    for i, (cell, width) in enumerate(zip(row, widths, strict=True)):
        space = " " * (width - _width(cell))
        padded.append(space + cell if i in right else cell + space)
    return "  ".join(padded).rstrip()


def _width(text: str) -> int:
    """Columns that a terminal gives to a text; Chinese and Japanese characters take two."""
    return sum(1 + (unicodedata.east_asian_width(character) in "WF") for character in text)
