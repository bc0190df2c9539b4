"""Types and small functions of nested containers."""

from typing import Any

Tree = dict[str, Any]
"""Variables of a network, or a part of them: nested dictionaries of arrays or their shapes."""

PyTree = Any
"""Anything that JAX's tree functions accept."""


def as_tuples(value: Any) -> Any:
    """Return the value with all lists, as JSON gives them, turned into tuples at any depth."""
    return tuple(map(as_tuples, value)) if isinstance(value, list | tuple) else value
