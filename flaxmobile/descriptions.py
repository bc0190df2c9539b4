"""Descriptions of networks and their options, read from the docstrings of their classes."""

import inspect
import re
from typing import Any, NamedTuple

from flaxmobile.registry import get_spec, model_options

_ENTRY = re.compile(r"  (\w+(?:, \w+)*): (.*)")


class Option(NamedTuple):
    """An option of a network.

    Attributes:
      name: as `create_model` takes it.
      default: as it is written in Python.
      meaning: from the "Attributes" of the class that declares it, or of a class before it.
    """

    name: str
    default: str
    meaning: str


def describe_options(name: str) -> tuple[Option, ...]:
    """Describe every option of a network, the paper's own before those that all networks have.

    Raises:
      InputError: no such network.
    """
    classes = get_spec(name).network.__mro__
    meanings: dict[str, str] = {}
    for each in reversed(classes):
        meanings |= _attributes(vars(each).get("__doc__") or "")
    fields = model_options(name)
    declared = [option for each in classes for option in vars(each).get("__annotations__", {})]
    names = dict.fromkeys(option for option in declared if option in fields)
    return tuple(
        Option(each, _written(fields[each].default), meanings.get(each, "")) for each in names
    )


def describe_choices(name: str) -> str:
    """Return the docstring of a network's file: paper, and where implementations differ.

    Raises:
      InputError: no such network.
    """
    return inspect.getdoc(inspect.getmodule(get_spec(name).network)) or ""


def _attributes(docstring: str) -> dict[str, str]:
    """Read the entries of a docstring's "Attributes" section, each on one line."""
    _, _, section = inspect.cleandoc(docstring).partition("\nAttributes:\n")
    found: dict[str, str] = {}
    names: list[str] = []
    for line in section.partition("\n\n")[0].splitlines():
        if entry := _ENTRY.fullmatch(line):
            names = entry[1].split(", ")
            found |= dict.fromkeys(names, entry[2])
        elif line.startswith("    "):
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
        else:
            names = []
    return found


def _written(default: Any) -> str:
    return f'"{default.__name__}"' if isinstance(default, type) else repr(default).replace("'", '"')
