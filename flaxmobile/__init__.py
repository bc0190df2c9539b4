"""The mobile CNN family in JAX and Flax Linen: exact, fast, strict."""

import ast
import importlib
from pathlib import Path
from typing import Any

_STUB = ast.parse(Path(__file__).with_suffix(".pyi").read_text())
_HOMES = {
    alias.name: node.module
    for node in _STUB.body
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
}
"""Public name -> its module, from the stub that type checkers read: each is listed once."""

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: importing JAX takes a second."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
