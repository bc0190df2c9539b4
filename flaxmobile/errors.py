"""Errors that a user can mend: they say what was given and what is accepted."""

import difflib
from collections.abc import Iterable, Sequence


class InputError(ValueError):
    """A wrong name, option, shape, dtype or file.

    The commands print it as one line and exit with status 1; every other exception is a defect
    of the library and keeps its traceback.
    """


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its representation where it has no text."""
    text = str(error).strip()
    return text.splitlines()[0] if text else repr(error)


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the valid name closest to `name`, or nothing."""
    matches = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.5)
    return f" (did you mean {matches[0]!r}?)" if matches else ""


def unknown(kind: str, name: object, valid: Iterable[str]) -> InputError:
    """Build the error for a name that is not among the valid ones."""
    names = list(valid)
    hint = nearest(str(name), names)
    return InputError(f"unknown {kind} {name!r}{hint}; accepted: {', '.join(names)}")


def check_choice(kind: str, name: str, valid: Iterable[str]) -> None:
    """Raise InputError unless a name is among the valid ones."""
    valid = list(valid)
    if name not in valid:
        raise unknown(kind, name, valid)


def check_value(name: str, value: object, fine: bool, accepted: str) -> None:
    """Raise InputError, which says what is accepted, unless an option's value is fine."""
    if not fine:
        raise InputError(f"{name} is {value}; accepted: {accepted}")


def shorten(items: Sequence[str], most: int = 8, longest: int = 100) -> str:
    """List the first of many items in a line, and say how many more there are."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(" ".join(item[:longest].split()) for item in items[:most]) + more
