"""Writing Keras's files of weights, for Keras 3 and Keras 2."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from convert.formats.keras import import_h5py
from convert.formats.keras_names import weight_of

Layers = dict[str, dict[str, np.ndarray]]
"""A layer's name -> its tensors by name, both in Keras's order."""


def write_weights(path: Path, tensors: Mapping[str, np.ndarray], places: Mapping[str, str]) -> None:
    """Write a `.weights.h5` of Keras 3, whose layers are known by class and number.

    Args:
      path: where.
      tensors: "layer/tensor" -> numbers, in Keras's order.
      places: name of a layer -> its class and number.

    Raises:
      OSError: the file cannot be written, wholly or in part.
    """
    with import_h5py().File(path, "w") as file:
        for layer, own in _by_layer(tensors, places).items():
            group = file.create_group(f"layers/{places[layer]}/vars")
            group.attrs["name"] = layer
            for number, array in enumerate(own.values()):
                group[str(number)] = array


def write_legacy_weights(
    path: Path, tensors: Mapping[str, np.ndarray], places: Mapping[str, str]
) -> None:
    """Write an `.h5` of Keras 2, whose layers are known by name; see `write_weights`."""
    with import_h5py().File(path, "w") as file:
        layers = _by_layer(tensors, places)
        file.attrs["layer_names"] = np.asarray([layer.encode() for layer in layers])
        for layer, own in layers.items():
            names = {f"{layer}/{weight_of(places[layer], name)}:0": own[name] for name in own}
            group = file.create_group(layer)
            group.attrs["weight_names"] = np.asarray([name.encode() for name in names])
            for name, array in names.items():
                group[name] = array


def _by_layer(tensors: Mapping[str, np.ndarray], places: Mapping[str, str]) -> Layers:
    """Group tensors by layer."""
    layers: Layers = {}
    for name, array in tensors.items():
        layer = next(each for each in _beginnings(name) if each in places)
        layers.setdefault(layer, {})[name.removeprefix(f"{layer}/")] = array
    return layers


def _beginnings(name: str) -> list[str]:
    """List the beginnings of a name that end before a slash, the longest first."""
    parts = name.split("/")
    return ["/".join(parts[:count]) for count in range(len(parts) - 1, 0, -1)]
