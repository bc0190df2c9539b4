"""Keras files: the tensors of the layers by name, for every version of Keras.

They are read with h5py only. A whole model's configuration, which is JSON, is read as data: it says
how images are prepared and what the answer is; none of its code can run.

Three formats hold the same tensors, which are told apart by the groups at their top:

- `.h5` of Keras 2, and of Keras 3's legacy way to save: a group per layer, whose attributes list
  its tensors by name, alone or beside the rest of a model.
- `.weights.h5` of Keras 3 and of tf.keras from 2.12 on: a group per layer under the name of its
  class, numbered in the model's order of layers; the tensors have numbers in place of names, and
  since Keras 3.8 an attribute has the layer's own name.
- `.keras`: a zip archive with a `.weights.h5` in it.

Source of the facts: `keras.src.legacy.saving.legacy_h5_format` and `keras.src.saving.saving_lib`.
"""

import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np

from convert.formats.contents import Contents
from convert.formats.keras_model import with_statements
from convert.formats.keras_names import count_from_0, is_state, name_of_state, names_of_weights
from flaxmobile.errors import InputError, pip_install

SUFFIXES = (".h5", ".hdf5", ".keras")
_SIGNATURE = b"\x89HDF\r\n\x1a\n"

_ACCEPTED = "accepted: weights or a model that Keras saved, as .h5, .weights.h5 or .keras"
_MEMBER = "model.weights.h5"
"""The weights in a `.keras` archive."""
_CONFIGURATION = "config.json"


def is_start_of_hdf5(head: bytes) -> bool:
    """Tell whether a file begins as HDF5 files do."""
    return head.startswith(_SIGNATURE)


def read_keras(path: Path) -> Contents:
    """Read a file that Keras wrote.

    Names are "layer/tensor", the same from every format: "block_1_expand_BN/gamma",
    "block2_sepconv1/pointwise/kernel". Layers that Keras numbers count from 0, whatever was built
    before them: "conv2d", "conv2d_1". Layers without a name are `BY_ORDER` and their class and
      number: "layers.conv2d_1/kernel". A tensor outside the layers, or with a name that is taken,
      keeps its path in the file.

    Raises:
      InputError: h5py is missing; the file is damaged, not Keras's, or refers to other files.
    """
    h5py = import_h5py()
    try:
        with _open(path, h5py) as (file, configuration):
            return with_statements(_read(file, h5py), configuration or _configuration_of(file))
    except InputError as error:
        raise InputError(f"{path} {error}; {_ACCEPTED}") from None
    except Exception:  # a damaged file raises whatever its bytes happen to mean
        raise InputError(f"{path} is damaged or not a file of Keras's; {_ACCEPTED}") from None


def _configuration_beside(archive: zipfile.ZipFile) -> Any:
    """Read the configuration in a `.keras` archive: the model and the arguments of `compile`."""
    if _CONFIGURATION not in archive.namelist():
        return None
    model = json.loads(archive.read(_CONFIGURATION))
    return {"model": model, "training": model.get("compile_config") or {}}


def _configuration_of(file: Any) -> Any:
    """Read the configuration of a model that is saved as HDF5, in attributes of the file."""
    if "model_config" not in file.attrs:
        return None
    return {k: json.loads(file.attrs.get(f"{k}_config", "{}")) for k in ("model", "training")}


def import_h5py() -> ModuleType:
    """Import h5py.

    Raises:
      InputError: it is missing; names the extra.
    """
    try:
        import h5py
    except ImportError:
        raise InputError(f"Keras files need h5py: {pip_install('keras')}") from None
    return h5py


@contextmanager
def _open(path: Path, h5py: ModuleType) -> Iterator[tuple[Any, Any]]:
    """Open the HDF5 file, or the one in the archive, which has the configuration beside it."""
    if not zipfile.is_zipfile(path):
        with h5py.File(path, "r") as file:
            yield file, None
        return
    with zipfile.ZipFile(path) as archive:
        if _MEMBER not in archive.namelist():
            raise InputError(f"is an archive without {_MEMBER}")
        configuration = _configuration_beside(archive)
        # On disk, because seeking in an archive reads it from its start again.
        with archive.open(_MEMBER) as content, tempfile.TemporaryFile() as copy:
            shutil.copyfileobj(content, copy)
            with h5py.File(copy, "r") as file:
                yield file, configuration


def _read(file: Any, h5py: ModuleType) -> dict[str, np.ndarray]:
    paths = _datasets(file, h5py)
    root = file.get("model_weights", file)
    names: dict[str, str] = {}
    if layers := _strings(root, "layer_names"):
        for layer in layers:
            prefix = root[layer].name.removeprefix("/")
            own = names_of_weights(_weights(root[layer]), layer)
            names |= {f"{prefix}/{weight}": name for weight, name in own.items()}
    elif any(is_state(path) for path in paths):
        groups = {path: file[path].parent for path in paths}
        found = {path: name_of_state(path, group, group.attrs) for path, group in groups.items()}
        names = {path: name for path, name in found.items() if name is not None}
    else:
        raise InputError("is an HDF5 file without layers of Keras's")
    unique = count_from_0(names)
    return {unique.get(place, place): _array(file[place]) for place in paths}


def _array(dataset: Any) -> np.ndarray:
    """Read a dataset; Keras stores bfloat16, which HDF5 lacks, as bytes with an attribute."""
    array = np.asarray(dataset[()])
    bfloat16 = dataset.attrs.get("dtype") == "bfloat16" and array.dtype.itemsize == 2
    return array.view(ml_dtypes.bfloat16) if bfloat16 else array


def _datasets(file: Any, h5py: ModuleType) -> list[str]:
    """List the paths of all datasets; refuse those that may be in another file or nowhere."""
    links: list[tuple[str, Any]] = []
    file.visititems_links(lambda name, link: links.append((name, link)))
    elsewhere = [name for name, link in links if not isinstance(link, h5py.HardLink)]
    inside = [name for name, link in links if isinstance(link, h5py.HardLink)]
    paths = [name for name in inside if isinstance(file[name], h5py.Dataset)]
    elsewhere += [name for name in paths if file[name].external or file[name].is_virtual]
    if elsewhere:
        raise InputError(f"refers to data elsewhere, which is not read: {', '.join(elsewhere)}")
    return paths


def _weights(layer: Any) -> list[str]:
    return [name for name in _strings(layer, "weight_names") if name in layer]


def _strings(group: Any, name: str) -> list[str]:
    """Read a list of names; Keras splits long attributes into name0, name1, …"""
    parts = [group.attrs[name]] if name in group.attrs else []
    while f"{name}{len(parts)}" in group.attrs:
        parts.append(group.attrs[f"{name}{len(parts)}"])
    return [s.decode() if isinstance(s, bytes) else str(s) for part in parts for s in part]
