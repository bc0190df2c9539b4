"""How `keras.applications` names layers, and in which order models keep them."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from convert.keras_files import BY_ORDER
from convert.rule import Options

Modules = Callable[[Options], Iterable[tuple[str, str]]]
Branch = Sequence[str | tuple[str, ...]]
"""Names of units one after the other; a tuple are units side by side that end the branch."""

WITHOUT_SCALE = {"params/scale": 1.0}
"""Its Inception networks normalize with `scale=False`."""


def conv_norm(ours: str, conv: str, norm: str) -> Iterator[tuple[str, str]]:
    """A convolution and the normalization after it."""
    yield f"{ours}/conv", conv
    yield f"{ours}/norm", norm


def numbered_conv_norm(ours: str, number: int) -> Iterator[tuple[str, str]]:
    """The same of layers that Keras has numbered."""
    return conv_norm(ours, numbered("conv2d", number), numbered("batch_normalization", number))


def numbered(kind: str, number: int) -> str:
    """The name of a layer that was given none: the class, and how many of it were made before."""
    return f"{kind}_{number}" if number else kind


def units_of(branches: Iterable[Branch]) -> list[str]:
    """The units of a module in the order in which they are made, branch by branch."""
    return [name for branch in branches for units in branch for name in _side_by_side(units)]


def by_depth(branches: Iterable[Branch]) -> list[str]:
    """The units of a module in the order in which a model keeps them: the farthest from its end
    first, then branch by branch. The concatenation of units side by side adds a layer.

    Source: `keras.src.ops.function.map_graph`.
    """
    distances = []
    for branch in branches:
        fork = 0 if isinstance(branch[-1], str) else 1
        for place, units in enumerate(branch):
            after = 3 * (len(branch) - 1 - place) + fork  # a unit has three layers
            distances += [(after, name) for name in _side_by_side(units)]
    return [name for _, name in sorted(distances, key=lambda pair: -pair[0])]


def _side_by_side(units: str | tuple[str, ...]) -> tuple[str, ...]:
    return (units,) if isinstance(units, str) else units


def by_order(modules: Modules, as_convolutions: Sequence[str] = ()) -> Modules:
    """The names in files without names: each layer's class, and its number among them.

    Args:
      modules: the network's under their names, in the order in which a model keeps them.
      as_convolutions: see `Rule`.
    """

    def names(options: Options) -> Iterator[tuple[str, str]]:
        counts: Counter[str] = Counter()
        known: dict[str, str] = {}
        for ours, theirs in modules(options):
            layer, part = _separable(theirs)
            if layer not in known:
                kind = "separable_conv2d" if part else _class_of(ours, as_convolutions)
                known[layer] = BY_ORDER + numbered(kind, counts[kind])
                counts[kind] += 1
            yield ours, known[layer] + part

    return names


def _separable(name: str) -> tuple[str, str]:
    """Split the name of a half of a separable convolution."""
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
