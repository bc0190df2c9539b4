"""Targets: the variable that each of an origin's tensors fills, and how the origin stores it."""

from typing import NamedTuple

import numpy as np
from flax import traverse_util

from convert.rule import Rule
from flaxmobile.layers import Model
from flaxmobile.trees import Tree
from flaxmobile.variables import abstract_variables


class Target(NamedTuple):
    """The variable that a tensor fills, and how the origin stores it.

    Attributes:
      path: of our leaf.
      ours: shape of our leaf.
      shape: of the origin's tensor.
      axes: permutation that brings the origin's tensor into our axis order.
      dtype: of both.
      copies: paths of our other leaves that have the same numbers.
    """

    path: str
    ours: tuple[int, ...]
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    dtype: np.dtype
    copies: tuple[str, ...] = ()

    def to_ours(self, tensor: np.ndarray) -> np.ndarray:
        """Turn the origin's tensor into our leaf, without a copy."""
        return tensor.reshape(self.shape).transpose(self.axes).reshape(self.ours)

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Say whether a tensor has the origin's shape; 1×1 kernels may lack their window."""
        return shape == self.shape or (*shape, 1, 1) == self.shape

    def to_theirs(self, leaf: np.ndarray) -> np.ndarray:
        """Undo `to_ours`."""
        in_our_order = leaf.reshape([self.shape[axis] for axis in self.axes])
        return in_our_order.transpose(np.argsort(self.axes))


def leaves_of(model: Model) -> Tree:
    """Map the path of every variable to its shape and dtype."""
    return traverse_util.flatten_dict(abstract_variables(model), sep="/")


def targets_of(rule: Rule, model: Model, leaves: Tree) -> dict[str, Target]:
    """Map the origin's name of each tensor to its target, in the origin's order."""
    modules = dict(rule.modules(model))
    order = {module: place for place, module in enumerate(modules)}
    kinds = list(rule.layout.leaves)
    ordered = []
    for path, leaf in leaves.items():
        collection, *parts, last = path.split("/")
        module, kind = "/".join(parts), f"{collection}/{last}"
        if _constant(rule, path) is not None:
            continue
        kind = rule.layout.kind_of(module, kind)
        window = (1, 1) if module in rule.as_convolutions and last == "kernel" else ()
        shape_with_window = (*window, *leaf.shape)
        axes = rule.layout.axes_of(shape_with_window)
        shape = tuple(shape_with_window[i] for i in np.argsort(axes))
        if rule.layout.splits(module) and last == "kernel":
            multiplier = rule.depth_multiplier(model)
            shape = (*shape[:2], shape[3] // multiplier, multiplier)
        name = rule.layout.join(modules[module], rule.layout.leaves[kind])
        position = order[module], kinds.index(kind)
        target = Target(path, leaf.shape, shape, axes, np.dtype(leaf.dtype))
        ordered.append((position, name, target))
    targets: dict[str, Target] = {}
    for _, name, target in sorted(ordered):
        first = targets.setdefault(name, target)
        if first is not target:
            targets[name] = first._replace(copies=(*first.copies, target.path))
    return targets


def constants_of(rule: Rule, leaves: Tree) -> dict[str, np.ndarray]:
    """Map the path of each variable that the origin's network lacks to its value."""
    values = {path: _constant(rule, path) for path in leaves}
    return {
        path: np.full(leaves[path].shape, value, leaves[path].dtype)
        for path, value in values.items()
        if value is not None
    }


def _constant(rule: Rule, path: str) -> float | None:
    """Return the value of a variable that the origin's network lacks; None for others."""
    collection, *_, leaf = parts = path.split("/")
    kinds = path, "/".join([collection, *parts[-2:]]), f"{collection}/{leaf}"
    return next((rule.constants[kind] for kind in kinds if kind in rule.constants), None)
