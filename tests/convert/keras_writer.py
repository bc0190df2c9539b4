"""Files of Keras 2, without Keras."""

import h5py
import numpy as np


def write_keras_2(path, tensors, root="/"):
    """A file as Keras 2 writes it, from names such as "conv1/kernel:0"."""
    layers = {}
    for name, array in tensors.items():
        layers.setdefault(name.rpartition("/")[0], {})[name] = array
    with h5py.File(path, "w") as file:
        group = file.require_group(root)
        names = np.asarray(["input_1", *layers], "S")
        for number, part in enumerate(np.array_split(names, 2)):  # as Keras does with long lists
            group.attrs[f"layer_names{number}"] = part
        file.require_group(f"{root}/input_1").attrs["weight_names"] = np.asarray([], "S")
        for layer, weights in layers.items():
            own = file.require_group(f"{root}/{layer}")
            own.attrs["weight_names"] = np.asarray(list(weights), "S")
            for name, array in weights.items():
                own[name] = array
