"""Quantized tensors of torch files: integers, and the steps between the numbers that they mean.

Only kernels are stored so: integers of int8 with 0 for 0, and one step for all, or one for each
output channel. A dense layer's are packed together with its bias.

Source of the facts: `torch._utils`, `torch.ao.nn.quantized.modules.linear`.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from convert.formats import storages
from convert.formats.pickles import Function, Global, Record
from convert.formats.storages import Place, Storage, StoredTensor, read_tensors

STEPS = "steps"
"""Name of the tensor beside a kernel, in place of `weight`, that has its steps."""
_PACKED = "._packed_params"
_SCHEMES = {"torch.per_tensor_affine": 2, "torch.per_channel_affine": 3}
"""Name of a way to quantize -> its parameters: scales, zero points, and an axis."""
_SIGNS = (f".{STEPS}", ".weight_fake_quant.scale")
"""Ends of names in quantized networks, and in those that train for it."""


class QuantizedTensor(NamedTuple):
    """A quantized tensor that has not been read.

    Attributes:
      integers: stored.
      scales: a number, or of each slice along the axis: numbers, or a stored tensor of them.
      zeros: as scales: the integers that stand for 0.
      axis: of the slices.
    """

    integers: StoredTensor
    scales: Any
    zeros: Any
    axis: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self.integers.shape


def _rebuild(
    storage: Storage, offset: int, shape: Any, strides: Any, how: Any, *more: Any
) -> QuantizedTensor | Record:
    """Rebuild a quantized tensor, as torch does."""
    scheme, *parameters = how
    if _SCHEMES.get(scheme.name) != len(parameters):
        return Record(scheme.name)
    stored = storages.REBUILD["torch._utils._rebuild_tensor_v2"](
        storage, offset, shape, strides, *more
    )
    return QuantizedTensor(stored, *parameters)


REBUILD: Mapping[str, Function] = {
    **storages.REBUILD,
    "torch._utils._rebuild_qtensor": _rebuild,
}
"""Functions by which torch's files name their tensors."""


def unpack(entries: Mapping[Any, Any]) -> dict[Any, Any]:
    """Name the kernels and biases of packed layers as those of other layers.

    Args:
      entries: of a state dict.

    Raises:
      ValueError: a name comes twice.
    """
    unpacked: list[tuple[Any, Any]] = []
    for name, value in entries.items():
        layer, packed, leaf = name.partition(_PACKED) if isinstance(name, str) else (name, "", "")
        if packed and isinstance(value, tuple) and len(value) == 2:
            weight, bias = value
            unpacked += [(f"{layer}.weight", weight)]
            unpacked += [] if bias is None else [(f"{layer}.bias", bias)]
        elif packed and leaf in (".weight", ".bias"):  # of torch before 1.6
            unpacked.append((f"{layer}{leaf}", value))
        elif not (packed and value == Global("torch.qint8")):
            unpacked.append((name, value))
    result = dict(unpacked)
    if len(result) < len(unpacked):
        raise ValueError("a name comes twice")
    return result


def shows_quantization(names: Iterable[str]) -> bool:
    """Tell whether names are those of a quantized network, or of one that trains for it."""
    return any(name.endswith(_SIGNS) for name in names)


def read_numbers(
    path: Path, tensors: Mapping[str, StoredTensor | QuantizedTensor], places: Mapping[str, Place]
) -> dict[str, np.ndarray]:
    """Read tensors; a quantized one as the float32 that it means, and its steps beside it.

    Args:
      path: the file.
      tensors: by name.
      places: of the file's storages, by key.

    Raises:
      ValueError, KeyError: a tensor has no place in the file, or a quantized one is none that torch
        makes of a kernel.
    """
    stored: dict[str, StoredTensor] = {}
    for name, tensor in tensors.items():
        parts = tensor._asdict() if isinstance(tensor, QuantizedTensor) else {"": tensor}
        stored |= {
            f"{name}/{k}": part for k, part in parts.items() if isinstance(part, StoredTensor)
        }
    read = read_tensors(path, stored, places)
    arrays: dict[str, np.ndarray] = {}
    for name, tensor in tensors.items():
        if isinstance(tensor, QuantizedTensor):
            parts = tensor._asdict()
            given: dict[str, Any] = {k: read.pop(f"{name}/{k}", v) for k, v in parts.items()}
            steps = f"{name.rpartition('.')[0]}.{STEPS}"
            if steps in tensors:
                raise ValueError("a name comes twice")
            arrays[name], arrays[steps] = _to_floats(**given)
        else:
            arrays[name] = read.pop(f"{name}/")
    return arrays


def _to_floats(
    integers: np.ndarray, scales: Any, zeros: Any, axis: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers [out, …] that integers mean, and the steps of each output channel."""
    scales, zeros = np.asarray(scales), np.asarray(zeros)
    fine = integers.dtype == np.int8 and integers.ndim >= 1 and axis == 0
    shapes = {scales.shape, zeros.shape}
    if not fine or len(shapes) > 1 or not shapes <= {(), integers.shape[:1]}:
        raise ValueError("a quantized tensor that is no kernel")
    steps = np.broadcast_to(scales.astype(np.float32), integers.shape[:1])
    if not (np.isfinite(steps) & (steps > 0)).all() or zeros.any():
        raise ValueError("a kernel whose steps are no numbers above 0, or not around 0")
    return integers * steps.reshape(-1, *(1,) * (integers.ndim - 1)), steps
