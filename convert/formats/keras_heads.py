"""The last layers of a Keras model: its head, and the activation of its answer."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from convert.formats.contents import Head, HeadLayer
from convert.formats.keras_graph import Config, Graph, Layer

_POOLING = "GlobalAveragePooling2D"
_PASSING = ("Dropout", "Flatten", "Reshape", "Identity")
"""Layers that pass pooled features on in inference."""
_WEIGHTED = ("Dense", "Conv2D")  # of 1×1 pixels
_ACTIVATIONS = {"Softmax": "softmax", "ReLU": "relu"}
"""Layer that is an activation -> its name."""
_LINEAR = "linear"

_OF_LOGITS = {
    "CategoricalCrossentropy": "softmax",
    "SparseCategoricalCrossentropy": "softmax",
    "BinaryCrossentropy": "sigmoid",
    "BinaryFocalCrossentropy": "sigmoid",
}
"""Loss of logits -> the activation of the answer."""
_OF_NUMBERS = ("MeanSquaredError", "MeanAbsoluteError", "Huber", "mse", "mae", "mean_squared_error")
"""Losses of numbers that are no probabilities."""


class Answer(NamedTuple):
    """The end of a model.

    Attributes:
      head: the layers after the pooling; None where the model ends in none that has weights.
      output: activation of the answer, see `Statements`; None where the model does not say it.
    """

    head: Head | None
    output: str | None


def read_answer(graph: Graph, training: Config) -> Answer:
    """Read the end of a model.

    Args:
      graph: the model.
      training: the arguments of its `compile`, which say the loss; empty if it was not compiled.
    """
    chain = list(_backwards(graph))
    stop = chain.pop() if chain and not _is_of_head(chain[-1]) else None
    layers: list[HeadLayer] = []
    for layer in reversed(chain):
        name = _activation(layer)
        if layer.kind in _WEIGHTED:
            layers.append(HeadLayer(layer.name, name))
        elif layers and layers[-1].activation == _LINEAR:
            layers[-1] = layers[-1]._replace(activation=name)
        elif name != _LINEAR:
            stop = layer
    if not layers:
        return Answer(None, None)
    obstacle = "" if stop is None or stop.kind == _POOLING else f"{stop.name} ({stop.kind})"
    last = layers[-1].activation
    output = _output_of_loss(training) if last == _LINEAR else last
    return Answer(Head(tuple(layers), obstacle), output)


def _backwards(graph: Graph) -> Iterator[Layer]:
    """Yield the layers from the answer to the first one that is no part of a head."""
    places = graph.outputs
    while len(places) == 1 and places[0] is not None:
        layer = graph.layers[places[0]]
        yield layer
        places = layer.inputs if _is_of_head(layer) else ()


def _is_of_head(layer: Layer) -> bool:
    return layer.kind in (*_WEIGHTED, *_PASSING, *_ACTIVATIONS, "Activation")


def _activation(layer: Layer) -> str:
    """Name the activation of a layer."""
    if layer.kind in _ACTIVATIONS:
        return _ACTIVATIONS[layer.kind]
    value: Any = layer.config.get("activation") or _LINEAR
    if isinstance(value, dict):  # a function or class of Keras, or the user's own
        value = value["config"] if isinstance(value.get("config"), str) else value["class_name"]
    return str(value)


def _output_of_loss(training: Config) -> str | None:
    """Return the activation that a loss applies to a linear answer, if it is a known one."""
    loss = training.get("loss")
    if isinstance(loss, dict):
        name, config = loss.get("class_name"), loss.get("config") or {}
        if config.get("from_logits"):
            return _OF_LOGITS.get(str(name))
        loss = name
    return "none" if loss in _OF_NUMBERS else None
