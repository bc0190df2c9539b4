"""The layers of a Keras model's configuration, which is JSON: nothing of it is run or imported.

Models inside the model are expanded. The facts are those of `keras.src.models.functional` and
`sequential`; of Keras 2, whose lists of inputs are shaped otherwise, too.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

Config = Mapping[str, Any]
_TENSOR = "__keras_tensor__"


class Layer(NamedTuple):
    """A layer, or an operation on tensors.

    Attributes:
      name: the layer's own.
      kind: its class, such as "Conv2D"; of an operation of TensorFlow, its function.
      config: the arguments of its class.
      inputs: places in the graph of the layers before it; None for one that is not in it.
      arguments: of an operation, in order, with None in place of tensors.
    """

    name: str
    kind: str
    config: Config
    inputs: tuple[int | None, ...]
    arguments: tuple[Any, ...] = ()


class Graph(NamedTuple):
    """A model's layers in the order of execution.

    Attributes:
      layers: each after those that it needs.
      outputs: places of the layers that give the model's outputs.
    """

    layers: list[Layer]
    outputs: tuple[int | None, ...]

    def after(self, place: int) -> list[int]:
        """List the places of the layers that take the output of a layer."""
        return [each for each, layer in enumerate(self.layers) if place in layer.inputs]


def read_graph(model: Config) -> Graph:
    """Read the layers of a model; none where its class is the user's own."""
    graph = Graph([], ())
    return graph._replace(outputs=_expand(model, (), graph.layers))


def _expand(
    model: Config, feeding: tuple[int | None, ...], layers: list[Layer]
) -> tuple[int | None, ...]:
    """Append the layers of a model that these layers feed; return the places of its outputs."""
    config = model["config"]
    if isinstance(config, list):  # a Sequential of the first Keras
        config = {"layers": config}
    given, outputs = iter(feeding), dict[str, tuple[int | None, ...]]()
    last = feeding
    for entry in config.get("layers", ()):
        own = entry["config"]
        name = _name(entry)
        inputs, arguments = last, ()
        if "input_layers" in config:
            calls = list(_calls(entry))
            sources = [name for call in calls for name in call.sources]
            inputs = tuple(place for source in sources for place in outputs.get(source, (None,)))
            arguments = calls[0].arguments if calls else ()
        if entry["class_name"] == "InputLayer" and feeding:
            last = (next(given, None),)
        elif _is_model(entry):
            last = _expand(entry, inputs, layers)
        else:
            layers.append(Layer(name, _kind(entry), own, inputs, arguments))
            last = (len(layers) - 1,)
        outputs[name] = last
    if "output_layers" not in config:
        return last
    names = _named(config["output_layers"])
    return tuple(place for name in names for place in outputs.get(name, (None,)))


def _is_model(entry: Config) -> bool:
    return isinstance(entry["config"], list) or "layers" in entry["config"]


def _name(entry: Config) -> str:
    config = entry["config"]
    own = config.get("name") if isinstance(config, dict) else None
    return str(entry.get("name") or own or entry["class_name"])


def _kind(entry: Config) -> str:
    kind = str(entry["class_name"])
    return str(entry["config"]["function"]) if kind == "TFOpLambda" else kind


class _Call(NamedTuple):
    """A call of a layer: the names of the layers whose outputs it takes, and its arguments."""

    sources: tuple[str, ...]
    arguments: tuple[Any, ...]


def _calls(entry: Config) -> Iterator[_Call]:
    for node in entry.get("inbound_nodes", ()):
        if isinstance(node, dict):  # Keras 3
            values = [*node.get("args", ()), *node.get("kwargs", {}).values()]
            constants = (None if list(_tensors(arg)) else arg for arg in node.get("args", ()))
            yield _Call(tuple(_tensors(values)), tuple(constants))
        else:  # Keras 2: [name, node, tensor, keyword arguments] for each tensor
            node = [node] if node and isinstance(node[0], str) else node
            others = [
                value for *_, more in node if isinstance(more, dict) for value in more.values()
            ]
            constants = (value for value in others if value is not None)
            yield _Call(tuple(str(call[0]) for call in node), (None, *constants))


def _tensors(value: Any) -> Iterator[str]:
    """Yield the names of the layers that give the tensors in an argument."""
    if isinstance(value, dict) and value.get("class_name") == _TENSOR:
        yield str(value["config"]["keras_history"][0])
    elif isinstance(value, list | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _tensors(each)


def _named(outputs: Any) -> Iterator[str]:
    """Yield the names in "output_layers": [name, 0, 0], or a list or dictionary of those."""
    if isinstance(outputs, dict):
        outputs = list(outputs.values())
    if outputs and isinstance(outputs[0], str):
        yield outputs[0]
        return
    for each in outputs:
        yield from _named(each)
