"""ONNX files: the weights of their convolutions and dense layers, in torch's layout.

Nothing of the graph is run. PyTorch's exporters fold normalization into the convolutions. The one
of `torch.export` keeps the names of the kernels; the older one keeps the path of a layer in the
name of its node. Layers without either are numbered in the order in which the graph runs them.
"""

import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from convert.formats.contents import FOLDED, Contents, Naming, Statements, is_number, preparations
from flaxmobile.errors import InputError, pip_install

_START = re.compile(rb"\x08[\x03-\x1f][\x12\x32\x3a\x42]")
"""The version of the format, and the field after it."""

_LAYERS = ("Conv", "Gemm", "MatMul")
_NORMALIZATION = "BatchNormalization"
_KERNEL = ".weight"


class _Layer(NamedTuple):
    """A node with weights: its name, the name of its kernel, kernel and bias in torch's layout."""

    node: str
    kernel_name: str
    kernel: np.ndarray
    bias: np.ndarray | None


def is_start_of_onnx(head: bytes) -> bool:
    """Tell whether a file begins as ONNX files do."""
    return _START.match(head) is not None


def read_onnx(path: Path) -> Contents:
    """Read the weights of an ONNX file; numbers in a file beside it are read from there.

    Raises:
      InputError: the file or the one beside it is damaged or missing, or it has no layers.
    """
    library = _import_onnx()
    try:
        graph = library.load(path).graph
        constants = _constants(library, graph)
    except Exception as error:  # protobuf and onnx raise anything
        raise InputError(f"{path} is damaged, or lacks a file beside it: {error}") from None
    said = Statements(unread=_preparations(graph, constants))
    if any(node.op_type == _NORMALIZATION for node in graph.node):
        used = [node for node in graph.node if node.op_type in (*_LAYERS, _NORMALIZATION)]
        inputs = dict.fromkeys(name for node in used for name in node.input)
        return Contents({name: constants[name] for name in inputs if name in constants}, said)
    layers = list(_layers(graph, constants))
    if not layers:
        raise InputError(f"{path} has no convolutions or dense layers with weights of its own")
    named, naming = _names_of(layers)
    tensors: dict[str, np.ndarray] = {}
    for name, layer in zip(named, layers, strict=True):
        tensors[f"{name}{_KERNEL}"] = layer.kernel
        if layer.bias is not None:
            tensors[f"{name}.bias"] = layer.bias
    return Contents(tensors, said, (FOLDED,), naming=naming)


def _constants(library: Any, graph: Any) -> dict[str, np.ndarray]:
    """Return initializers and constant nodes by name, also under the names of their copies."""
    to_array = library.numpy_helper.to_array
    found = {each.name: to_array(each) for each in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = to_array(node.attribute[0].t)
        elif node.op_type == "Identity" and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found


def _layers(graph: Any, constants: Mapping[str, np.ndarray]) -> Iterator[_Layer]:
    """Yield the layers in the order of the graph."""
    gates = _hard_sigmoids(graph, constants)
    for node in graph.node:
        inputs = list(node.input)
        if node.op_type not in _LAYERS or inputs[1] not in constants:
            continue
        kernel = constants[inputs[1]]
        transposed = any(each.name == "transB" and each.i for each in node.attribute)
        if node.op_type != "Conv" and not transposed:
            kernel = kernel.T
        bias = constants.get(inputs[2]) if len(inputs) > 2 else None
        if bias is not None and node.output[0] in gates:
            bias = bias - bias.dtype.type(3)
        yield _Layer(node.name, inputs[1], kernel, bias)


def _preparations(graph: Any, constants: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """Return the arithmetic before the first layer."""
    before = itertools.takewhile(lambda node: node.op_type not in _LAYERS, graph.node)
    operations = [(node.op_type, node.input, node.output) for node in before]
    return preparations(operations, {each.name for each in graph.input} - set(constants))


def _hard_sigmoids(graph: Any, constants: Mapping[str, np.ndarray]) -> set[str]:
    """Return the values x of relu6(x) / 6: hard sigmoids whose 3 was folded into a bias."""
    clipped = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Clip"}
    factors = {"Mul": 1 / 6, "Div": 6.0}
    return {
        clipped[node.input[0]]
        for node in graph.node
        if node.op_type in factors and node.input[0] in clipped
        if is_number(constants.get(node.input[1]), factors[node.op_type])
    }


def _names_of(layers: list[_Layer]) -> tuple[list[str], Naming]:
    """Name the layers after their kernels, or after their nodes; otherwise number them."""
    after_kernels = [each.kernel_name.removesuffix(_KERNEL) for each in layers]
    named = [each.kernel_name.endswith(_KERNEL) for each in layers]
    if not all(named):
        after_kernels = [
            name if has_name else _module_of(layer.node)
            for name, has_name, layer in zip(after_kernels, named, layers, strict=True)
        ]
    if all(after_kernels) and len(set(after_kernels)) == len(layers):
        return after_kernels, "folded"
    return [str(number) for number in range(len(layers))], "numbered"


def _module_of(node: str) -> str:
    """Return the name of the torch module of a node: `/conv/conv.0/Conv` is that of `conv.0`.

    Each part is the name of a module as its parent has it, with the parent's own name before it
    where the parent is a list.
    """
    parts: list[str] = []
    for part in node.split("/")[1:-1]:
        if parts and part.startswith(f"{parts[-1]}."):
            parts.pop()
        parts.append(part)
    return ".".join(parts)


def _import_onnx() -> Any:
    try:
        import onnx
    except ImportError:
        raise InputError(f"ONNX files need onnx: {pip_install('onnx')}") from None
    return onnx
