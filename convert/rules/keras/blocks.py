"""Names of the layers of `keras.applications`, in the order in which models list them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial

from convert.formats.keras_names import BY_ORDER
from convert.rule import Modules, Rule
from convert.rules.units import Names, unit, units_of
from flaxmobile.layers import Block, Max, Network, Unit
from flaxmobile.layers.branches import Module
from flaxmobile.models.inception_resnet_v2 import Residual

WITHOUT_SCALE = {"params/scale": 1.0}
"""Keras's Inception networks normalize with `scale=False`."""

with_bn = partial(unit, conv="", norm="_bn")
"""A convolution, and its normalization under its name and `_bn`."""


def numbered(kind: str, number: int) -> str:
    """Name a layer that has no name: its class, and its number in that class."""
    return f"{kind}_{number}" if number else kind


def numbered_unit(ours: str, number: int) -> Names:
    """Name a convolution and its normalization by their number."""
    return unit(ours, "", numbered("conv2d", number), numbered("batch_normalization", number))


def inception(blocks: Iterable[Block]) -> Names:
    """Name the units of an Inception network by their number in the order of creation.

    They are listed in the order in which a model lists them, which differs.
    """
    created = 0
    for block in blocks:
        match block.row:
            case Max():
                continue
            case Unit():
                places = [(0, block.name)]
            case Residual(branches):
                places = _places(f"{block.name}/branches", branches)
            case branches:
                places = _places(block.name, branches)
        layers = []
        for place, (after, ours) in enumerate(places):
            conv, norm = numbered_unit(ours, created + place)
            layers += [(after + 1, place, conv), (after, place, norm)]
        yield from (pair for *_, pair in sorted(layers, key=lambda each: (-each[0], each[1])))
        created += len(places)
        if isinstance(block.row, Residual):
            yield f"{block.name}/widen", f"{block.name}_conv"


def _places(ours: str, module: Module) -> list[tuple[int, str]]:
    """List the units of a module in the order of creation: branch by branch.

    Returns:
      The number of layers after each, to the module's end, and its path. A model lists the layers
      farthest from the end first, then branch by branch. The concatenation of units side by side
      adds a layer. Source: `keras.src.ops.function.map_graph`.
    """
    found = []
    for branch in module:
        layers = [units for layer in branch if (units := units_of(layer))]
        for position, units in enumerate(layers):
            fork = len(layers[-1]) > 1
            after = 3 * (len(layers) - 1 - position) + fork  # a unit has three layers
            found += [(after, f"{ours}/{each.name}") for each in units]
    return found


def by_order(modules: Modules, as_convolutions: Sequence[str] = ()) -> Modules:
    """Name the layers in files without names by their class and their number in it.

    Args:
      modules: the network's under their names, in the order in which a model lists them.
      as_convolutions: see `Rule`.
    """

    def names(model: Network) -> Names:
        counts: Counter[str] = Counter()
        known: dict[str, str] = {}
        for ours, theirs in modules(model):
            layer, part = _separable(theirs)
            if layer not in known:
                kind = "separable_conv2d" if part else _class_of(ours, as_convolutions)
                known[layer] = BY_ORDER + numbered(kind, counts[kind])
                counts[kind] += 1
            yield ours, known[layer] + part

    return names


def places_of(rule: Rule, model: Network) -> dict[str, str]:
    """Map the name of each layer of a network to its class and number in a file of Keras 3."""
    numbered = by_order(rule.modules, rule.as_convolutions)(model)
    return {
        _separable(theirs)[0]: _separable(place)[0].removeprefix(BY_ORDER)
        for (_, theirs), (_, place) in zip(rule.modules(model), numbered, strict=True)
    }


def _separable(name: str) -> tuple[str, str]:
    """Split the name of one half of a separable convolution."""
    for part in ("/depthwise", "/pointwise"):
        if name.endswith(part):
            return name.removesuffix(part), part
    return name, ""


def _class_of(ours: str, as_convolutions: Sequence[str]) -> str:
    if ours.endswith("/norm"):
        return "batch_normalization"
    if ours.endswith("depthwise/conv"):
        return "depthwise_conv2d"
    return "dense" if ours == "classifier" and ours not in as_convolutions else "conv2d"
