"""The user's own head in place of the origin's classifier."""

import dataclasses
from collections.abc import Sequence

from convert.formats.contents import Head, HeadLayer
from convert.reading import Reading
from convert.rule import Modules, Names
from flaxmobile.layers import Model

_CLASSIFIER = "classifier"
_LINEAR = "linear"


def adopt_head(reading: Reading, head: Head | None) -> Reading:
    """Let a file's own dense layers be the classifier, where the file lacks the origin's.

    Args:
      reading: the file.
      head: the file's last layers; where they are not known, a single dense layer is taken for one
        that follows average pooling.

    Returns:
      The reading by a rule that names the file's own layers; as it was where they are not dense
      layers, one after the other.
    """
    rule, layout = reading.rule, reading.rule.layout
    modules = dict(rule.modules(rule.make(**{**rule.options, **rule.variants[0]})))
    beside = {name: name for name in reading.outside if name not in reading.claims}
    whole = dataclasses.replace(
        reading,
        claims={**reading.claims, **beside},
        outside=[name for name in reading.outside if name not in beside],
    )
    present = dict.fromkeys(layout.split(name)[0] for name in whole.claims)
    classifier = modules.get(_CLASSIFIER)
    known = frozenset().union(*reading.layers) - {classifier}
    layers = _match([layer for layer in present if layer not in known], head)
    if classifier is None or not _are_dense(whole, layers):
        return reading
    *first, last = (layer.name for layer in layers)
    if (first, last) == ([], classifier) and not beside:
        return reading
    names = {**{f"dense{i}": name for i, name in enumerate(first, start=1)}, _CLASSIFIER: last}
    bias = layout.leaves["params/bias"]
    without = [each for each in names if layout.join(names[each], bias) not in whole.claims]
    gone = [option for each, option in rule.removable.items() if modules.get(each) not in present]
    dense = tuple(
        (whole.channels(_CLASSIFIER, layer.name), layer.activation) for layer in layers[:-1]
    )
    options = {**dict.fromkeys(gone, False), **({"dense_layers": dense} if dense else {})}
    adopted = rule._replace(
        modules=_with_head(rule.modules, names),
        own_options={**rule.own_options, **options},
        as_convolutions=[each for each in rule.as_convolutions if each != _CLASSIFIER],
        constants={**rule.constants, **{f"params/{each}/bias": 0.0 for each in without}},
    )
    return dataclasses.replace(whole, rule=adopted, head=_describe(layers, head))


def _match(own: Sequence[str], head: Head | None) -> tuple[HeadLayer, ...]:
    """Give the file's own layers, in its order, the activations of the head, if they are it."""
    if head is None:
        return tuple(HeadLayer(name, _LINEAR) for name in own) if len(own) == 1 else ()
    if head.obstacle or len(own) != len(head.layers):
        return ()
    if {layer.name for layer in head.layers} == set(own):
        return head.layers
    # Files without names, and models inside models, may call them otherwise.
    return tuple(layer._replace(name=name) for name, layer in zip(own, head.layers, strict=True))


def _are_dense(reading: Reading, layers: Sequence[HeadLayer]) -> bool:
    """Tell whether layers hold a matrix, with or without a bias, and nothing else."""
    layout = reading.rule.layout
    kernel, bias = (layout.leaves[f"params/{leaf}"] for leaf in ("kernel", "bias"))
    for layer in layers:
        weights = reading.tensors.get(layout.join(layer.name, kernel))
        inside = {own for name, own in map(layout.split, reading.claims) if name == layer.name}
        if weights is None or weights.ndim != 2 or not inside <= {kernel, bias}:
            return False
    return bool(layers)


def _with_head(modules: Modules, names: dict[str, str]) -> Modules:
    """Name the layers of the head as the file does."""

    def named(model: Model) -> Names:
        yield from (pair for pair in modules(model) if pair[0] != _CLASSIFIER)
        yield from names.items()

    return named


def _describe(layers: Sequence[HeadLayer], head: Head | None) -> str:
    *first, last = layers
    before = [f"{layer.name} ({layer.activation})" for layer in first]
    taken = "" if head else ", taken to follow average pooling"
    return f"the file's own head: {', '.join([*before, last.name])}{taken}"
