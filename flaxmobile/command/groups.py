"""Flags in groups, one for each class that declares some, with help that fills its lines."""

import dataclasses
import inspect
import re
from collections.abc import Mapping
from typing import Any

import docstring_parser

_GROUP = "_of_one_class"
"""Attribute of the classes that `in_groups` makes."""


def in_groups(config: Any, hints: Mapping[str, Any], default: Any) -> type:
    """Make a dataclass of a config's own fields, and of one field for each class that it inherits.

    tyro shows such a field as a group of flags. It keeps the line breaks of a field's docstring, so
    each field brings its own in one line.

    Args:
      config: a dataclass.
      hints: its fields' types.
      default: an object of it, whose values are the defaults; None takes the class's.
    """
    of_class: dict[type, list[dataclasses.Field[Any]]] = {config: []}
    for field in dataclasses.fields(config):
        owner = next(each for each in config.__mro__ if field.name in inspect.get_annotations(each))
        of_class.setdefault(owner, []).append(field)

    def make(owner: type, groups: list[tuple[str, Any, Any]]) -> type:
        documented = _documentation(owner)
        fields = [
            (field.name, hints[field.name], _described(field, default, documented))
            for field in of_class[owner]
        ]
        namespace = {"__doc__": inspect.getdoc(owner), _GROUP: True}
        return dataclasses.make_dataclass(
            owner.__name__, [*fields, *groups], namespace=namespace, kw_only=True
        )

    inherited = [owner for owner in config.__mro__[1:] if owner in of_class]
    groups = {_title(owner): make(owner, []) for owner in inherited}
    return make(
        config,
        [(title, each, dataclasses.field(default_factory=each)) for title, each in groups.items()],
    )


def from_groups(config: Any, parsed: Any) -> Any:
    """Make a config from an object of the class that `in_groups` made of it."""
    groups = [parsed, *(each for each in vars(parsed).values() if hasattr(type(each), _GROUP))]
    values = {name: value for group in groups for name, value in vars(group).items()}
    return config(**{field.name: values[field.name] for field in dataclasses.fields(config)})


def _title(owner: type) -> str:
    """Return the name of a group: "DataSettings" gives "data"."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", owner.__name__.removesuffix("Settings"))
    return words.lower()


def _described(field: "dataclasses.Field[Any]", default: Any, documented: dict[str, str]) -> Any:
    """Return a field of the same default, or that of a `default`, and with help in one line."""
    metadata = {"help": documented.get(field.name)}
    if default is not None:
        value = getattr(default, field.name)
        return dataclasses.field(default_factory=lambda: value, metadata=metadata)
    return dataclasses.field(
        default=field.default, default_factory=field.default_factory, metadata=metadata
    )


def _documentation(owner: type) -> dict[str, str]:
    """Read the docstrings of a class's fields, a paragraph a line."""
    params = docstring_parser.parse_from_object(owner).params
    return {
        each.arg_name: re.sub(r"(?<!\n)\n[ ]*(?!\n)", " ", inspect.cleandoc(each.description or ""))
        for each in params
    }
