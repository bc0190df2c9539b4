"""From a weights directory back to a file of the origin's library: torch or Keras."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from convert import engine
from convert.formats.keras_files import write_legacy_weights, write_weights
from convert.recognition import rules_to
from convert.references import build_reference
from convert.rules.keras.blocks import places_of
from convert.sources import write_tensors
from flaxmobile.files import written_at_once
from flaxmobile.layers import Model
from flaxmobile.tasks import options_of
from flaxmobile.weights import open_weights


class OriginWeights(NamedTuple):
    """A Flax network as the tensors of an origin.

    Attributes:
      model_name: registered name of the network.
      model: the network.
      image_size: of the images of its preprocessing.
      origin: whose names the tensors have.
      tensors: by the origin's names, in its order.
      version: of the origin's module, for torch.
      places: name of a layer -> its class and number, for Keras.
    """

    model_name: str
    model: Model
    image_size: int
    origin: str
    tensors: Mapping[str, np.ndarray]
    version: int
    places: Mapping[str, str]


def convert_back(directory: Path, source: str = "auto", library: str = "torch") -> OriginWeights:
    """Turn a weights directory into tensors of the origin that the weights come from.

    Weights of another source get the names of the first origin that has such a network.

    Args:
      directory: of weights.
      source: origin of the tensors' names.
      library: whose file it is to be: "torch" or "keras".

    Raises:
      InputError: not a weights directory, or no origin of the library has such a network.
    """
    weights = open_weights(directory)
    name, metadata = weights.model_name, weights.metadata
    rules = rules_to(library, name, source)
    model, variables = weights.load()
    own = metadata.source.get("origin")
    order = sorted(rules, key=lambda origin: origin != own)
    origin = next((each for each in order if not engine.obstacles(rules[each], model)), order[0])
    rule = rules[origin]
    return OriginWeights(
        model_name=name,
        model=model,
        image_size=metadata.preprocessing.side,
        origin=origin,
        tensors=engine.from_flax(rule, model, variables),
        version=rule.version,
        places=places_of(rule, model) if library == "keras" else {},
    )


def write_back(path: Path, weights: OriginWeights) -> None:
    """Write a file of the origin's library; it appears complete or not at all.

    The suffix says the kind: `.weights.h5` and `.keras` are Keras 3's, `.h5` Keras 2's, and
    others torch's. Missing parents are created.

    Raises:
      InputError: a library is missing, or a format cannot store the weights.
    """
    if not weights.places:
        write_tensors(path, weights.tensors, weights.version)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_at_once(path) as draft:
        if path.suffix == ".keras":
            _write_keras_model(draft, weights)
        elif path.name.endswith(".weights.h5"):
            write_weights(draft, weights.tensors, weights.places)
        else:
            write_legacy_weights(draft, weights.tensors, weights.places)


def _write_keras_model(path: Path, weights: OriginWeights) -> None:
    """Let Keras write its own network, which gives logits, with the weights."""
    options, size = options_of(weights.model), weights.image_size
    network = build_reference("keras", weights.model_name, options, size)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        numbers, whole = Path(folder) / "numbers.weights.h5", Path(folder) / "whole.keras"
        write_weights(numbers, weights.tensors, weights.places)
        network.load_weights(numbers)
        network.save(whole)
        whole.replace(path)
