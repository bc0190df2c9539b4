"""The user's own head in place of the origin's classifier."""

import dataclasses
from collections.abc import Iterable, Mapping

from convert.formats.contents import Head, HeadLayer
from convert.reading import Reading
from convert.rule import Names, Rule
from flaxmobile.layers import Network

_CLASSIFIER = "classifier"


def adopt_head(reading: Reading, head: Head | None) -> Reading:
    """Let a file's own dense layers be the classifier, if it lacks the origin's.

    Args:
      reading: the file.
      head: the file's last layers; where they are not known, a single dense layer is taken for one
        that follows average pooling.

    Returns:
      The reading with a rule that names the file's own layers; as it was if they are not dense
      layers, one after the other.
    """
    rule, layout = reading.rule, reading.rule.layout
    body, classifier = _layers_of(rule)
    tensors: dict[str, list[str]] = {}
    for name in reading.claims:
        layer, own = layout.split(name)
        if layer not in body:
            tensors.setdefault(layer, []).append(own)
    layers = _match(tensors, head)
    if classifier is None or classifier in tensors or not layers:
        return reading
    kernel, bias = layout.leaves["params/kernel"], layout.leaves["params/bias"]
    for layer in layers:
        weights = reading.tensors.get(layout.join(layer.name, kernel))
        if weights is None or weights.ndim != 2 or not {kernel, bias}.issuperset(tensors[layer.name]):
            return reading
    ours = [*(f"dense{number}" for number in range(1, len(layers))), _CLASSIFIER]
    adopted = dict(zip(ours, layers, strict=True))
    channels = {each: reading.channels(each, layer.name) for each, layer in adopted.items()}
    dense = tuple((channels[each], adopted[each].activation) for each in ours[:-1])
    missing = [each for each, layer in adopted.items() if bias not in tensors[layer.name]]
    present = {layout.split(name)[0] for name in reading.claims}
    removed = [
        option for module, option in rule.removable.items() if _name_of(rule, module) not in present
    ]
    return dataclasses.replace(
        reading,
        rule=rule._replace(
            modules=_with_head(rule, {each: layer.name for each, layer in adopted.items()}),
            own_options={
                **rule.own_options,
                **dict.fromkeys(removed, False),
                **({"dense_layers": dense} if dense else {}),
            },
            as_convolutions=[each for each in rule.as_convolutions if each != _CLASSIFIER],
            constants={**rule.constants, **{f"params/{each}/bias": 0.0 for each in missing}},
        ),
        notes=(_describe(layers, dense, stated=head is not None),),
    )
