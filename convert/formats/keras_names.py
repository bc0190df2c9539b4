"""Names of the tensors of Keras's layers, the same from every format and version.

They are "layer/tensor": "block_1_expand_BN/gamma", "block2_sepconv1/pointwise/kernel".
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

BY_ORDER = "layers."
"""Prefix of layers that a file knows only by class and number."""

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


def names_of_weights(weights: Iterable[str], layer: str | None = None) -> dict[str, str]:
    """Name the tensors that Keras 2 and older call "conv1/kernel:0"; others are left out.

    Args:
      weights: names of tensors, of one layer or one model.
      layer: the layer that lists them; by default each is named by its own.
    """
    found = ((weight, _LEGACY_NAME.fullmatch(weight)) for weight in weights)
    known = {weight: match for weight, match in found if match}
    nested = len({match[1] for match in known.values()}) > 1  # a model in the model
    of_layer: dict[str, list[str]] = {}
    for weight, match in known.items():
        of_layer.setdefault(match[1] if nested or layer is None else layer, []).append(weight)
    names: dict[str, str] = {}
    for own, its in of_layer.items():
        separable = any(known[weight][2] == "pointwise_kernel" for weight in its)
        renamed = {**_LEGACY, **(_SEPARABLE_LEGACY if separable else {})}
        names |= {weight: f"{own}/{renamed[known[weight][2]]}" for weight in its}
    return names


def is_state(path: str) -> bool:
    """Tell whether a path in a file is one of Keras 3's, whose tensors have numbers."""
    return _STATE.fullmatch(path) is not None


def name_of_state(path: str, group: Iterable[str], attributes: Mapping[str, Any]) -> str | None:
    """Name a tensor of Keras 3 by its path; None for a class of layers that is not known.

    Args:
      path: in the file.
      group: the numbers of all tensors of the layer.
      attributes: of the layer: its own name, since Keras 3.8.
    """
    match = _STATE.fullmatch(path)
    if match is None or match[1] not in _NUMBERED:
        return None
    # A batch normalization with three tensors has no scale.
    unscaled = match[1] == "batch_normalization" and set(group) == {"0", "1", "2"}
    tensors = _NUMBERED[match[1]][unscaled:]
    if int(match[3]) >= len(tensors):
        return None
    layer = attributes.get("name", f"{BY_ORDER}{match[1]}{match[2]}")
    return f"{layer}/{tensors[int(match[3])]}"


def weight_of(place: str, tensor: str) -> str:
    """Return Keras 2's name of a layer's tensor: "depthwise_kernel" for "kernel" of such a layer.

    Args:
      place: the layer's class, with or without a number.
      tensor: the name here.
    """
    depthwise = place.startswith("depthwise") and tensor == "kernel"
    return "depthwise_kernel" if depthwise else tensor.replace("/", "_")


def count_from_0(names: Mapping[str, str]) -> dict[str, str]:
    """Renumber the layers that Keras has numbered, class by class.

    Args:
      names: place of a tensor in a file -> its name.

    Returns:
      The same; a tensor whose name is taken is called by its place.
    """
    first: dict[str, int] = {}
    found = [_AUTOMATIC.fullmatch(name.rpartition("/")[0]) for name in names.values()]
    for match in filter(None, found):
        kind = _class(match)
        first[kind] = min(first.get(kind, int(match[2] or 0)), int(match[2] or 0))
    unique: dict[str, str] = {}
    for (place, name), automatic in zip(names.items(), found, strict=True):
        if automatic is not None:
            name = f"{_numbered(automatic, first)}/{name.rpartition('/')[2]}"
        unique[place] = place if name in unique.values() else name
    return unique


def _numbered(match: re.Match[str], first: Mapping[str, int]) -> str:
    kind = _class(match)
    number = int(match[2] or 0) - first[kind]
    return f"{kind}_{number}" if number else kind


def _class(match: re.Match[str]) -> str:
    """Return the class of a numbered layer; Keras 1 writes some of them in one word."""
    return "conv2d" if match[1].startswith("conv") else "batch_normalization"
