"""From a jaxpr to the nodes of an ONNX graph."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from flaxmobile.compat import Operation, walk_jaxpr
from flaxmobile.errors import InputError
from flaxmobile.exporters.onnx.graph import Graph, Rounded, Value, channels_first
from flaxmobile.exporters.onnx.merging import merge
from flaxmobile.exporters.onnx.operators import RULES
from flaxmobile.layers.quantization import FAKE_QUANT

_ELEMENTWISE = {
    "abs": "Abs", "add": "Add", "div": "Div", "eq": "Equal", "erf": "Erf", "exp": "Exp",
    "ge": "GreaterOrEqual", "gt": "Greater", "le": "LessOrEqual", "log": "Log",
    "logistic": "Sigmoid", "lt": "Less", "max": "Max", "min": "Min", "mul": "Mul", "neg": "Neg",
    "pow": "Pow", "sqrt": "Sqrt", "sub": "Sub", "tanh": "Tanh",
}  # fmt: skip
"""Primitive -> operator, both with broadcasting of axes of length 1."""


def lower(graph: Graph, jaxpr: Any, inputs: Sequence[Value]) -> list[Value]:
    """Append the operations of a closed jaxpr to a graph, and return its outputs.

    Raises:
      InputError: an operation that is not known here.
    """
    return walk_jaxpr(jaxpr, inputs, partial(_lower_one, graph))


def _lower_one(graph: Graph, operation: Operation, inputs: list[Value]) -> Sequence[Value]:
    name, params = operation.name, operation.params
    constant = all(isinstance(value, np.ndarray) for value in inputs)
    rule = RULES.get(params["name"] if name == "composite" else name)
    if constant:
        results = _compute(operation, inputs)
        return [_with_steps(operation, *results)] if params.get("name") == FAKE_QUANT else results
    if rule is None and operation.inner is not None:
        return lower(graph, operation.inner, inputs)
    if name in _ELEMENTWISE:
        return [_elementwise(graph, name, list(map(_operand, inputs)))]
    if rule is None:
        raise InputError(f"ONNX export does not know the operation {name} of the network")
    result = rule(graph, operation, *inputs)
    return result if isinstance(result, list) else [result]


def _with_steps(operation: Operation, kernel: Any) -> Value:
    """Return a kernel that a composite has rounded, with its steps."""
    rounded = kernel.view(Rounded)
    rounded.steps = operation.attributes["scale"].astype(np.float32)
    return rounded


def _compute(operation: Operation, inputs: Sequence[Any]) -> list[np.ndarray]:
    """Compute an operation on constants. What only repeats numbers is left to broadcasting."""
    shape = operation.outputs[0].shape
    if operation.name == "reshape":
        return [inputs[0].reshape(shape)]
    if operation.name == "broadcast_in_dim":
        axes = dict(zip(operation.params["broadcast_dimensions"], inputs[0].shape, strict=True))
        return [inputs[0].reshape([axes.get(axis, 1) for axis in range(len(shape))])]
    whole = [
        np.broadcast_to(value, aval.shape)
        for value, aval in zip(inputs, operation.inputs, strict=True)
    ]
    calls = operation.inner is not None
    run = jax.jit(operation.run) if calls else operation.run  # once, not each of its operations
    return list(map(np.asarray, run(whole)))


def _operand(value: Value) -> Value:
    """Prepare a constant for broadcasting: without axes along which it only repeats itself."""
    if isinstance(value, str):
        return value
    for axis in range(value.ndim):
        first = value.take([0], axis)
        if (value == first).all():
            value = first
    return value.transpose(channels_first(value.ndim))


def _elementwise(graph: Graph, name: str, inputs: list[Value]) -> Value:
    """Add an operator, or merge it with the one before it."""
    merged = merge(graph, name, *inputs) if len(inputs) == 2 else None
    return graph.add(_ELEMENTWISE[name], *inputs) if merged is None else merged
