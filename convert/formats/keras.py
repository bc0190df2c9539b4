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

import dataclasses
import json
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np

from convert.formats.contents import Contents
from convert.formats.keras_graph import read_graph
from convert.formats.keras_heads import read_answer
from convert.formats.keras_images import read_preparation
from flaxmobile.errors import InputError

SUFFIXES = (".h5", ".hdf5", ".keras")
_SIGNATURE = b"\x89HDF\r\n\x1a\n"

BY_ORDER = "layers."
"""Prefix of layers that a file knows only by class and number."""

_ACCEPTED = "accepted: weights or a model that Keras saved, as .h5, .weights.h5 or .keras"
_MEMBER = "model.weights.h5"
"""The weights in a `.keras` archive."""
_CONFIGURATION = "config.json"

_BATCH_NORMALIZATION = ("gamma", "beta", "moving_mean", "moving_variance")
_SEPARABLE = ("depthwise/kernel", "pointwise/kernel", "bias")
_CONVOLUTION = ("kernel", "bias")
_NUMBERED = {
    "conv2d": _CONVOLUTION,
    "depthwise_conv2d": _CONVOLUTION,
    "dense": _CONVOLUTION,
    "separable_conv2d": _SEPARABLE,
    "batch_normalization": _BATCH_NORMALIZATION,
    "normalization": ("mean", "variance", "count"),
}
"""Class of a layer -> its tensors, in the order of their numbers."""

_LEGACY = {
    **{name: name for name in ("kernel", "bias", "pointwise_kernel", *_BATCH_NORMALIZATION)},
    **{name: name for name in _NUMBERED["normalization"]},
    "depthwise_kernel": "kernel",  # of a depthwise convolution
    **{"W": "kernel", "b": "bias"},  # Keras 1, which wrote some of the published files
    **{"running_mean": "moving_mean", "running_std": "moving_variance"},
}
"""A tensor's name in legacy files -> its name here, unless the layer is a separable convolution."""
_SEPARABLE_LEGACY = {name.replace("/", "_"): name for name in _SEPARABLE}
_LEGACY_NAME = re.compile(rf"(?:(.+?)[/_])?({'|'.join(_LEGACY)})(?:_\d+)?(?::\d+)?")
_STATE = re.compile(r"(?:.+/)?([a-z0-9_]+?)((?:_\d+)?)/vars/(\d+)")
_AUTOMATIC = re.compile(r"(conv(?:olution)?2d|batch_?normalization)(?:_(\d+))?")


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
    h5py = _import_h5py()
    try:
        with _open(path, h5py) as (file, configuration):
            return _contents(_read(file, h5py), configuration or _configuration_of(file))
    except InputError as error:
        raise InputError(f"{path} {error}; {_ACCEPTED}") from None
    except Exception:  # a damaged file raises whatever its bytes happen to mean
        raise InputError(f"{path} is damaged or not a file of Keras's; {_ACCEPTED}") from None


def _contents(tensors: dict[str, np.ndarray], configuration: Any) -> Contents:
    """Add a model's own statements to its tensors."""
    if configuration is None:
        return Contents(tensors)
    try:
        graph = read_graph(configuration["model"])
        preparation = read_preparation(graph, tensors)
        answer = read_answer(graph, configuration["training"])
    except (LookupError, TypeError, AttributeError):
        return Contents(tensors, notes=("its configuration is not one that can be read here",))
    used = tuple(f"{name}/" for name in preparation.used)
    return Contents(
        {name: array for name, array in tensors.items() if not name.startswith(used)},
        dataclasses.replace(preparation.statements, output=answer.output),
        tuple(preparation.describe()),
        answer.head,
    )


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


def _import_h5py() -> ModuleType:
    try:
        import h5py
    except ImportError:
        raise InputError("Keras files need h5py: pip install 'flaxmobile[keras]'") from None
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
    if _strings(root, "layer_names"):
        names = _legacy_names(root)
    elif any(_STATE.fullmatch(name) for name in paths):
        names = _state_names(file, paths)
    else:
        raise InputError("is an HDF5 file without layers of Keras's")
    chosen: dict[str, str] = {}
    for name, place in zip(_count_from_0(names.values()), names, strict=True):
        chosen[place] = place if name in chosen.values() else name
    return {chosen.get(place, place): _array(file[place]) for place in paths}


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


def _legacy_names(root: Any) -> dict[str, str]:
    """Map the path of each tensor in a legacy file to its name."""
    names = {}
    for layer in _strings(root, "layer_names"):
        weights = {weight: _LEGACY_NAME.fullmatch(weight) for weight in _weights(root[layer])}
        known = {weight: match for weight, match in weights.items() if match}
        nested = len({match[1] for match in known.values()}) > 1  # a model in the model
        of_layer: dict[str, list[str]] = {}
        for weight, match in known.items():
            of_layer.setdefault(match[1] if nested else layer, []).append(weight)
        for own, its in of_layer.items():
            separable = any(known[weight][2] == "pointwise_kernel" for weight in its)
            renamed = {**_LEGACY, **(_SEPARABLE_LEGACY if separable else {})}
            prefix = root[layer].name.removeprefix("/")
            for weight in its:
                names[f"{prefix}/{weight}"] = f"{own}/{renamed[known[weight][2]]}"
    return names


def _weights(layer: Any) -> list[str]:
    return [name for name in _strings(layer, "weight_names") if name in layer]


def _strings(group: Any, name: str) -> list[str]:
    """Read a list of names; Keras splits long attributes into name0, name1, …"""
    parts = [group.attrs[name]] if name in group.attrs else []
    while f"{name}{len(parts)}" in group.attrs:
        parts.append(group.attrs[f"{name}{len(parts)}"])
    return [s.decode() if isinstance(s, bytes) else str(s) for part in parts for s in part]


def _state_names(file: Any, paths: Iterable[str]) -> dict[str, str]:
    """Map the path of each tensor in a file of Keras 3 to its name."""
    names = {}
    for path in paths:
        match = _STATE.fullmatch(path)
        if match is None or match[1] not in _NUMBERED:
            continue
        group = file[path].parent
        tensors = _tensors_of(match[1], group)
        if int(match[3]) < len(tensors):
            layer = group.attrs.get("name", f"{BY_ORDER}{match[1]}{match[2]}")
            names[path] = f"{layer}/{tensors[int(match[3])]}"
    return names


def _tensors_of(kind: str, group: Mapping[str, Any]) -> tuple[str, ...]:
    """List the names of a layer's tensors; a batch normalization with three has no scale."""
    unscaled = kind == "batch_normalization" and set(group) == {"0", "1", "2"}
    return _NUMBERED[kind][unscaled:]


def _count_from_0(names: Iterable[str]) -> list[str]:
    """Renumber the layers that Keras has numbered, class by class."""
    names = list(names)
    first: dict[str, int] = {}
    found = [_AUTOMATIC.fullmatch(name.rpartition("/")[0]) for name in names]
    for match in filter(None, found):
        kind = _class(match)
        first[kind] = min(first.get(kind, int(match[2] or 0)), int(match[2] or 0))
    return [
        name if match is None else f"{_numbered(match, first)}/{name.rpartition('/')[2]}"
        for name, match in zip(names, found, strict=True)
    ]


def _numbered(match: re.Match[str], first: Mapping[str, int]) -> str:
    kind = _class(match)
    number = int(match[2] or 0) - first[kind]
    return f"{kind}_{number}" if number else kind


def _class(match: re.Match[str]) -> str:
    """Return the class of a numbered layer; Keras 1 writes some of them in one word."""
    return "conv2d" if match[1].startswith("conv") else "batch_normalization"
