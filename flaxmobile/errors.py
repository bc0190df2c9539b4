"""Errors that a user can fix: they say what was given and what is accepted."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path


class InputError(ValueError):
    """A wrong name, option, shape, dtype or file.

    The commands print it as one line and exit with status 1; every other exception is a defect
    of the library and keeps its traceback.
    """


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its representation where it has no text."""
    text = str(error).strip()
    return text.splitlines()[0] if text else repr(error)


def pip_install(extra: str) -> str:
    """Return the command that installs an extra, from the checkout where the package runs there."""
    root = Path(__file__).parents[1]
    if not (root / "pyproject.toml").is_file():
        return f"pip install 'flaxmobile[{extra}]'"
    return f"pip install -e '{'.' if root == Path.cwd() else root}[{extra}]'"


SYNONYMS = {
    "arch": ("model",),
    "bs": ("batch-size",),
    "checkpoint": ("weights", "init-from"),
    "cifar": ("cifar10",),
    "dataset-dir": ("data-dir",),
    "drop": ("dropout-rate",),
    "drop-rate": ("dropout-rate",),
    "fp16": ("float16",),
    "half": ("float16",),
    "imagenet": ("imagenet2012",),
    "imagenet1k": ("imagenet2012",),
    "in-chans": ("in-channels",),
    "inception": ("inception-v3",),
    "lr": ("learning-rate",),
    "mobilenet": ("mobilenet-v2",),
    "mobilenetv3": ("mobilenet-v3-large",),
    "n-epochs": ("epochs",),
    "pretrained": ("init-from", "weights"),
    "topk": ("top",),
    "wd": ("weight-decay",),
    "width-mult": ("alpha",),
    "width-multiplier": ("alpha",),
}
"""Word of other libraries -> the names that it has here, the best first."""


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the valid name that means or resembles `name`, if any."""
    by_word = {_word(each): each for each in valid}
    meant = [word for word in SYNONYMS.get(_word(name), ()) if word in by_word]
    matches = meant or difflib.get_close_matches(_word(name), by_word, n=1, cutoff=0.6)
    return f" (did you mean {by_word[matches[0]]!r}?)" if matches else ""


def _word(name: str) -> str:
    return name.lstrip("-").replace("_", "-").lower()


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


def flag(name: str) -> str:
    """Spell a setting as a flag: "val_split" is --val-split."""
    return "--" + name.replace("_", "-")


def check_flags(settings: object, accepted: Mapping[str, tuple[bool, str]]) -> None:
    """Raise InputError for the first setting with a wrong value.

    Args:
      settings: values by attribute.
      accepted: setting -> whether its value is fine, and which values are.
    """
    for name, (fine, values) in accepted.items():
        check_value(flag(name), getattr(settings, name), fine, values)


def shorten(items: Sequence[str], most: int = 8, longest: int = 100) -> str:
    """List the first of many items in a line, and say how many more there are."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(" ".join(item[:longest].split()) for item in items[:most]) + more
