"""TFLite files: the constants of their graphs by name, or by the order of the layers.

They are flatbuffers of TFLite's schema, which the package `tflite` reads; nothing of the graph is
run. MediaPipe's constants have the names of layers, those of other converters do not: they are
numbered in the order of the layers, in torch's layout. Where a graph computes in float32 from
constants in float16, by way of DEQUANTIZE operations, those constants are taken, and sparse ones
with their zeros.
"""

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from convert.formats.contents import FOLDED, Contents, Statements, is_number, preparations
from convert.formats.tflite_sparse import densify
from flaxmobile.errors import InputError, pip_install

_ARGUMENTS = ("INT32", "INT64")
"""Types of shapes, paddings and axes: arguments of operations, not weights."""
_DTYPES = {
    name: np.dtype(name.lower()).newbyteorder("<")
    for name in ("FLOAT32", "FLOAT16", "FLOAT64", "INT8", "UINT8", "INT16", "BOOL")
} | {"BFLOAT16": np.dtype(ml_dtypes.bfloat16)}
"""TFLite's name of a type -> NumPy's."""

_LAYERS = {
    "CONV_2D": (0, 3, 1, 2),  # [out, kh, kw, in] -> [out, in, kh, kw]
    "DEPTHWISE_CONV_2D": (3, 0, 1, 2),  # [1, kh, kw, out] -> [out, 1, kh, kw]
    "FULLY_CONNECTED": (0, 1),  # [out, in]
}
"""Operation with weights -> the permutation of its kernel to torch's layout."""
_WIDENED = ("DEQUANTIZE", "DENSIFY")
"""Operations that give a constant's numbers in another type, or with its zeros."""
_KERNEL = "/Kernel"
"""End of the names of kernels in MediaPipe's files."""

_ACCEPTED = "accepted: a TFLite model whose weights are float32 or float16"


def is_start_of_tflite(head: bytes) -> bool:
    """Tell whether a file begins as TFLite files do: an offset, then the schema's identifier."""
    return head[4:8] == b"TFL3"


def read_tflite(path: Path) -> Contents:
    """Read the constants of a TFLite file, except arguments of operations.

    Raises:
      InputError: the file is damaged, holds no constants, two of one name, or one of a type that
        NumPy lacks.
    """
    library = _import_tflite()
    content = path.read_bytes()
    tensors: dict[str, np.ndarray] = {}
    numbered: dict[str, np.ndarray] = {}
    others: list[str] = []
    unread: tuple[str, ...] = ()
    try:
        if not is_start_of_tflite(content):
            raise ValueError("another identifier")
        model = library.Model.GetRootAs(content)
        for graph in map(model.Subgraphs, range(model.SubgraphsLength())):
            constants = list(_constants(library, model, graph))
            for _, name, kind, value in constants:
                if value is None:
                    others.append(f"{name!r} ({kind})")
                elif name in tensors:
                    others.append(f"two tensors named {name!r}")
                else:
                    tensors[name] = value
            numbers = {each.place: each.value for each in constants if each.value is not None}
            numbered |= dict(_numbered(library, model, graph, numbers))
            unread += _preparations(library, model, graph)
    except Exception:  # damaged bytes raise whatever they happen to mean
        raise InputError(f"{path} is damaged or not a TFLite file; {_ACCEPTED}") from None
    if others or not tensors:
        raise InputError(f"{path} holds {', '.join(others) or 'no weights'}; {_ACCEPTED}")
    if any(name.endswith(_KERNEL) for name in tensors) or not numbered:
        return Contents(tensors)
    return Contents(numbered, Statements(unread=unread), (FOLDED,), naming="numbered")


class _Constant(NamedTuple):
    """A constant: its place in the graph, name, type, and numbers; None if NumPy lacks the type."""

    place: int
    name: str
    kind: str
    value: np.ndarray | None


def _constants(library: Any, model: Any, graph: Any) -> Iterator[_Constant]:
    """Yield the constants of a graph in its order."""
    types = _names(library.TensorType)
    for place in range(graph.TensorsLength()):
        tensor = graph.Tensors(place)
        data = model.Buffers(tensor.Buffer())
        kind = types.get(tensor.Type(), f"type {tensor.Type()}")
        if data.DataLength() == 0 or kind in _ARGUMENTS:
            continue
        name = tensor.Name().decode()
        shape = [tensor.Shape(axis) for axis in range(tensor.ShapeLength())]
        if kind not in _DTYPES:
            yield _Constant(place, name, kind, None)
            continue
        value = data.DataAsNumpy().view(_DTYPES[kind])
        sparsity = tensor.Sparsity()
        dense = (
            value.reshape(shape) if sparsity is None else densify(value, sparsity, shape, library)
        )
        yield _Constant(place, name, kind, dense)


def _numbered(
    library: Any, model: Any, graph: Any, constants: Mapping[int, np.ndarray]
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield kernels and biases of the layers under their numbers, in torch's layout."""
    operations = list(_operations(library, model, graph))
    found = dict(constants)
    for kind, inputs, output in operations:
        if kind in _WIDENED and inputs[0] in found:
            found[output] = found[inputs[0]]
    # A hard sigmoid is relu6(x + 3) / 6, and converters fold the 3 into the bias of its layer.
    gates = {
        inputs[0]
        for kind, inputs, _ in operations
        if kind == "MUL" and is_number(found.get(inputs[1]), 1 / 6)
    }
    layers = [each for each in operations if each.kind in _LAYERS and each.inputs[1] in found]
    for number, (kind, inputs, output) in enumerate(layers):
        yield f"{number}.weight", found[inputs[1]].transpose(_LAYERS[kind])
        if len(inputs) > 2 and inputs[2] in found:
            bias = found[inputs[2]]
            yield f"{number}.bias", bias - bias.dtype.type(3) if output in gates else bias


def _preparations(library: Any, model: Any, graph: Any) -> tuple[str, ...]:
    """Return the arithmetic before the first layer."""
    operations = _operations(library, model, graph)
    before = itertools.takewhile(lambda each: each.kind not in _LAYERS, operations)
    images = [graph.Inputs(index) for index in range(graph.InputsLength())]
    return preparations([(kind, given, [made]) for kind, given, made in before], images)


class _Operation(NamedTuple):
    """An operation of a graph: its kind, and the places of its inputs and its first output."""

    kind: str
    inputs: list[int]
    output: int


def _operations(library: Any, model: Any, graph: Any) -> Iterator[_Operation]:
    kinds = _names(library.BuiltinOperator)
    for operator in map(graph.Operators, range(graph.OperatorsLength())):
        code = model.OperatorCodes(operator.OpcodeIndex())
        kind = kinds.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()), "")
        inputs = [operator.Inputs(index) for index in range(operator.InputsLength())]
        yield _Operation(kind, inputs, operator.Outputs(0))


def _names(enumeration: Any) -> dict[int, str]:
    """Map the values of an enumeration of the schema to their names."""
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


def _import_tflite() -> Any:
    try:
        import tflite
    except ImportError:
        raise InputError(f"TFLite files need tflite: {pip_install('tflite')}") from None
    return tflite
