"""A Keras model: its tensors, and what its configuration says about images and the answer."""

import dataclasses
from typing import Any

import numpy as np

from convert.formats.contents import Contents
from convert.formats.keras_graph import Graph, read_graph
from convert.formats.keras_heads import read_answer
from convert.formats.keras_images import read_preparation
from flaxmobile.errors import InputError


def with_statements(tensors: dict[str, np.ndarray], configuration: Any) -> Contents:
    """Add a model's own statements to its tensors.

    Args:
      tensors: by name.
      configuration: "model", the model's configuration, and "training", the arguments of its
        `compile`; None where the file has none.

    Raises:
      InputError: a layer with weights stands before the network.
    """
    if configuration is None:
        return Contents(tensors)
    try:
        graph = read_graph(configuration["model"])
        preparation = read_preparation(graph, tensors)
        said = preparation.statements
        answer = read_answer(graph, configuration["training"])
    except InputError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        return Contents(tensors, notes=("its configuration is not one that can be read here",))
    used = tuple(f"{name}/" for name in preparation.used)
    return Contents(
        {name: array for name, array in tensors.items() if not name.startswith(used)},
        dataclasses.replace(said, output=answer.output, options=_options(graph)),
        tuple(preparation.describe()),
        answer.head,
    )


def _options(graph: Graph) -> dict[str, float]:
    """Read the epsilon of the network's first normalization, which all of its others share."""
    norms = (layer.config for layer in graph.layers if layer.kind == "BatchNormalization")
    epsilon = next(norms, {}).get("epsilon")
    return {"norm_epsilon": float(epsilon)} if isinstance(epsilon, int | float) else {}
