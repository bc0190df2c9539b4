"""TFLite files: the constants of their graphs by name.

They are flatbuffers of TFLite's schema, which the package `tflite` reads; nothing of the graph is
run. Where a graph computes in float32 from constants in float16, by way of DEQUANTIZE operations,
the constants have the layers' names.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from convert.formats.contents import Contents
from flaxmobile.errors import InputError

_ARGUMENTS = ("INT32", "INT64")
"""Types of shapes, paddings and axes: arguments of operations, not weights."""
_DTYPES = {
    name: np.dtype(name.lower()).newbyteorder("<")
    for name in ("FLOAT32", "FLOAT16", "FLOAT64", "INT8", "UINT8", "INT16", "BOOL")
} | {"BFLOAT16": np.dtype(ml_dtypes.bfloat16)}
"""TFLite's name of a type -> NumPy's."""

_ACCEPTED = "accepted: a TFLite model whose weights are float32, or float16 as MediaPipe's"


def is_start_of_tflite(head: bytes) -> bool:
    """Tell whether a file begins as TFLite files do: an offset, then the schema's identifier."""
    return head[4:8] == b"TFL3"


def read_tflite(path: Path) -> Contents:
    """Read the constants of a TFLite file, except arguments of operations, in its order.

    Raises:
      InputError: the file is damaged, holds no constants, two of one name, or one that is sparse or
        of a type that NumPy lacks.
    """
    library = _import_tflite()
    content = path.read_bytes()
    tensors: dict[str, np.ndarray] = {}
    others = []
    try:
        if not is_start_of_tflite(content):
            raise ValueError("another identifier")
        for name, kind, value in _constants(library, content):
            if value is None:
                others.append(f"{name!r} ({kind})")
            elif name in tensors:
                others.append(f"two tensors named {name!r}")
            else:
                tensors[name] = value
    except Exception:  # damaged bytes raise whatever they happen to mean
        raise InputError(f"{path} is damaged or not a TFLite file; {_ACCEPTED}") from None
    if others or not tensors:
        raise InputError(f"{path} holds {', '.join(others) or 'no weights'}; {_ACCEPTED}")
    return Contents(tensors)


def _constants(library: Any, content: bytes) -> Iterator[tuple[str, str, np.ndarray | None]]:
    """Yield name, type and numbers of each constant; None for types that NumPy lacks."""
    types = {
        value: name for name, value in vars(library.TensorType).items() if isinstance(value, int)
    }
    model = library.Model.GetRootAs(content)
    for graph in map(model.Subgraphs, range(model.SubgraphsLength())):
        for tensor in map(graph.Tensors, range(graph.TensorsLength())):
            data = model.Buffers(tensor.Buffer())
            kind = types.get(tensor.Type(), f"type {tensor.Type()}")
            if data.DataLength() == 0 or kind in _ARGUMENTS:
                continue
            name = tensor.Name().decode()
            shape = [tensor.Shape(axis) for axis in range(tensor.ShapeLength())]
            if tensor.Sparsity() is not None:
                yield name, f"sparse {kind}", None
            elif kind not in _DTYPES:
                yield name, kind, None
            else:
                yield name, kind, data.DataAsNumpy().view(_DTYPES[kind]).reshape(shape)


def _import_tflite() -> Any:
    try:
        import tflite
    except ImportError:
        raise InputError("TFLite files need tflite: pip install 'flaxmobile[tflite]'") from None
    return tflite
