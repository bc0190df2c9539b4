"""TensorFlow.js's layers models: `model.json` and the files of numbers that it names.

The layers and their configuration are Keras 2's. Source: `tfjs-core/src/io/types.ts`.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from convert.formats.contents import Contents
from convert.formats.keras_model import with_statements
from convert.formats.keras_names import count_from_0, names_of_weights
from flaxmobile.errors import InputError

_DTYPES = {name: np.dtype(name).newbyteorder("<") for name in ("float32", "int32", "uint8")}
_HALF = np.dtype("<f2")
_ACCEPTED = "accepted: model.json of a layers model, with the files that it names beside it"


def is_start_of_json(head: bytes) -> bool:
    """Tell whether a file begins as a JSON object does."""
    return head.lstrip()[:1] == b"{"


def read_tfjs(path: Path) -> Contents:
    """Read a layers model, as tensorflowjs_converter, TensorFlow.js or Teachable Machine saves it.

    Raises:
      InputError: a file is damaged, missing, of another kind, or elsewhere; or numbers are
        quantised.
    """
    try:
        model = json.loads(path.read_bytes())
        tensors: dict[str, np.ndarray] = {}
        for group in _groups(model):
            content = b"".join(_read_part(path, name) for name in group["paths"])
            tensors |= _split(content, group["weights"])
        topology = model["modelTopology"]
        configuration = {
            "model": topology.get("model_config", topology),
            "training": topology.get("training_config") or {},
        }
        unique = count_from_0(names_of_weights(tensors))
        named = {unique.get(name, name): array for name, array in tensors.items()}
        return with_statements(named, configuration)
    except InputError as error:
        raise InputError(f"{path} {error}; {_ACCEPTED}") from None
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        raise InputError(
            f"{path} is damaged or not a model of TensorFlow.js; {_ACCEPTED}"
        ) from None


def _groups(model: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the groups of tensors of a layers model whose numbers are not quantised."""
    if model.get("format") == "graph-model":
        raise InputError("is a graph model of TensorFlow.js, which has no layers any more")
    groups: Sequence[Mapping[str, Any]] = model["weightsManifest"]
    kinds = {each.get("quantization", {}).get("dtype") for g in groups for each in g["weights"]}
    if rounded := sorted(kinds - {None, "float16"}):
        raise InputError(
            f"has weights that are quantised to {', '.join(rounded)}, which changed their numbers: "
            "save the model again without quantization"
        )
    return groups


def _read_part(path: Path, name: str) -> bytes:
    """Read a file that the model names; it must be in the same folder."""
    inside = PurePosixPath(name)
    if len(inside.parts) != 1 or inside.parts[0] == ".." or "\\" in name:
        raise InputError(f"names a file elsewhere, which is not read: {name!r}")
    try:
        return (path.parent / inside).read_bytes()
    except OSError as error:
        raise InputError(f"needs {name} beside it: {error.strerror}") from None


def _split(content: bytes, weights: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Split a group's bytes into its tensors, which follow each other."""
    tensors, start = {}, 0
    for each in weights:
        dtype = _HALF if "quantization" in each else _DTYPES[each["dtype"]]
        count = math.prod(each["shape"])
        tensors[each["name"]] = np.frombuffer(content, dtype, count, start).reshape(each["shape"])
        start += count * dtype.itemsize
    if start != len(content):
        raise InputError(f"has {len(content)} bytes of numbers, its tensors {start}")
    return tensors
