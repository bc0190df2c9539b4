"""Kernels that an origin stores in parts along their output channels, one convolution each."""

import re
from collections.abc import Iterator, Mapping

import numpy as np

from convert.rule import Parts, Rule
from flaxmobile.layers import Model

Arrays = Mapping[str, np.ndarray]
Sizes = Mapping[str, tuple[int, ...]]
"""Name of a tensor -> output channels of its parts, in order."""


def has_parts(parts: Parts | None, tensors: Arrays) -> bool:
    """Tell whether a file has kernels in parts, if its origin stores any so."""
    return parts is None or any(f".{parts.name}." in name for name in tensors)


def join(parts: Parts | None, tensors: Arrays) -> tuple[Arrays, Sizes]:
    """Join the parts of kernels, `conv2.conv_list.0.weight` and so on, to `conv2.weight`.

    Returns:
      The tensors in their order, and the sizes of those that were joined.
    """
    if parts is None:
        return tensors, {}
    pattern = re.compile(rf"(.*)\.{parts.name}\.(\d+)\.(\w+)")
    lists: dict[str, dict[int, np.ndarray]] = {}
    joined: dict[str, np.ndarray] = {}
    for name, tensor in tensors.items():
        if found := pattern.fullmatch(name):
            own = f"{found[1]}.{found[3]}"
            lists.setdefault(own, {})[int(found[2])] = tensor
            tensor = np.empty(0)  # its place in the order
            name = own
        joined[name] = tensor
    sizes = {}
    for name, list_ in lists.items():
        arrays = [list_[number] for number in sorted(list_)]
        same = {array.shape[1:] for array in arrays}
        joined[name] = np.concatenate(arrays) if len(same) == 1 else np.empty(0, np.float32)
        sizes[name] = tuple(len(array) for array in arrays)
    return joined, sizes


def part_problems(rule: Rule, model: Model, claims: Mapping[str, str], sizes: Sizes) -> list[str]:
    """Say in a sentence if a file's parts have other sizes than the network's."""
    if rule.parts is None:
        return []
    for name, expected in _expected(rule, model):
        found = sizes.get(claims.get(name, ""))
        if found is not None and found != expected:
            listed = ", ".join(map(str, found[:4])) + ", …" * (len(found) > 4)
            return [f"{name} has parts of {listed} channels, {rule.parts.hint}"]
    return []


def split(rule: Rule, model: Model, tensors: Arrays) -> dict[str, np.ndarray]:
    """Undo `join`, with the parts that the network has."""
    if rule.parts is None:
        return dict(tensors)
    expected, result = dict(_expected(rule, model)), {}
    for name, tensor in tensors.items():
        if sizes := expected.get(name):
            layer, leaf = rule.layout.split(name)
            places = np.cumsum(sizes)[:-1]
            for number, part in enumerate(np.split(tensor, places)):
                result[f"{layer}.{rule.parts.name}.{number}.{leaf}"] = part
        else:
            result[name] = tensor
    return result


def _expected(rule: Rule, model: Model) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the origin's name of each kernel in parts, and their sizes."""
    assert rule.parts is not None
    modules, leaf = dict(rule.modules(model)), rule.layout.leaves["params/kernel"]
    for module, sizes in rule.parts.sizes(model).items():
        yield rule.layout.join(modules[module], leaf), sizes
