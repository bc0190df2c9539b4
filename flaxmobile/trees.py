"""Types and small functions of nested containers."""

from typing import Any

import jax

Tree = dict[str, Any]
"""Variables of a network, or a part of them: nested dictionaries of arrays or their shapes."""

PyTree = Any
"""Anything that JAX's tree functions accept."""


def as_tuples(value: Any) -> Any:
    """Return the value with all lists, as JSON gives them, turned into tuples at any depth."""
    return tuple(map(as_tuples, value)) if isinstance(value, list | tuple) else value


def named_leaves(tree: PyTree) -> dict[str, Any]:
    """Return the leaves of a tree by their paths, such as stage1_block1/expand/conv/kernel."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
