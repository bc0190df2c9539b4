"""What a user chooses over what a file holds: no classifier, or no auxiliary ones."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from convert.options import channels_of
from convert.rule import Options, Rule
from flaxmobile.registry import get_spec

Tree = dict[str, Any]

HEADLESS: Options = {"num_classes": 0}
"""The choice of `--no-classifier`."""

_HIDDEN = "hidden"
"""Our name of a layer before the classifier, which stays in a backbone if the file still has it."""


def choose(
    rule: Rule, read: Options, chosen: Options, tensors: Mapping[str, np.ndarray]
) -> tuple[Tree, list[str]]:
    """Put a user's options over those that were read from a file.

    Args:
      rule: how the origin stores the network.
      read: the options of the file's network.
      chosen: the user's. Those that the origin's networks differ in, and those that no rule has a
        say in, are taken; the number of classes may become 0.
      tensors: of the file, by the origin's names.

    Returns:
      The options, and a problem for each choice that the file contradicts.
    """
    free = {name for variant in rule.variants for name in variant}
    refused = {
        name: value
        for name, value in chosen.items()
        if name in read and name not in free and value != read[name]
        if not (name == "num_classes" and value == 0)
    }
    problems = [
        f"{name} is {value!r}, the file's network has {read[name]!r}"
        for name, value in refused.items()
    ]
    options = {**read, **{name: chosen[name] for name in chosen if name not in refused}}
    if options.get("num_classes") == 0 and _has_lost_hidden(rule, read, tensors):
        options["hidden_layer"] = False
    return options, problems


def _has_lost_hidden(rule: Rule, read: Options, tensors: Mapping[str, np.ndarray]) -> bool:
    """Whether the layer before the classifier is not the origin's any more."""
    layer = dict(rule.modules(read)).get(_HIDDEN)
    if layer is None or rule.widths is None:
        return False
    return channels_of(rule, tensors, _HIDDEN, layer) != rule.widths(read).get(_HIDDEN)


def left_out(
    rule: Rule, model_name: str, read: Options, chosen: Options, names: Iterable[str], targets: Any
) -> dict[str, str]:
    """Name the tensors that have no place because of the user's choice, each with the reason.

    Without a classifier these are the origin's own head, and whatever lies beside the body: a
    tensor is beside the body if no layer of the body shares the first part of its name.

    Args:
      rule: how the origin stores the network.
      model_name: its registered name.
      read: the options of the file's network.
      chosen: the user's.
      names: of the file's tensors, as the origin would call them.
      targets: the origin's names of the tensors that have a place.
    """
    layout = rule.layout
    placed = {layout.split(name)[0] for name in targets}
    modules = dict(rule.modules(read))
    spare = {layer for layer in modules.values() if layer not in placed}
    head = (_HIDDEN, *get_spec(model_name).head)
    body = {
        layer.partition(layout.separator)[0]
        for module, layer in modules.items()
        if module.partition("/")[0] not in head
    }
    headless = chosen.get("num_classes") == 0
    others = [f"{name}={value}" for name, value in chosen.items() if value != read.get(name)]
    kind = "a backbone" if headless else f"a network with {' '.join(others)}"

    def is_left_out(name: str) -> bool:
        layer = layout.split(name)[0]
        beside = name.partition(layout.separator)[0] not in body
        return layer not in placed and (layer in spare or (headless and beside))

    return {name: f"not part of {kind}" for name in names if is_left_out(name)}
