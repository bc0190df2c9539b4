"""From a jaxpr to the nodes of an ONNX graph."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from flaxmobile.compat import composite_attributes, run_jaxpr
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


def lower(
    graph: Graph, jaxpr: Any, constants: Sequence[Any], inputs: Sequence[Value]
) -> list[Value]:
    """Append the operations of a jaxpr to a graph, and return its outputs.

    Raises:
      InputError: an operation that is not known here.
    """
    values: dict[Any, Value] = dict(zip(jaxpr.constvars, map(np.asarray, constants), strict=True))
    values.update(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> Value:
        return np.asarray(atom.val, atom.aval.dtype) if hasattr(atom, "val") else values[atom]

    for equation in jaxpr.eqns:
        results = _lower_one(graph, equation, [read(atom) for atom in equation.invars])
        values.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _lower_one(graph: Graph, equation: Any, inputs: list[Value]) -> Sequence[Value]:
    name, params = equation.primitive.name, equation.params
    constant = all(isinstance(value, np.ndarray) for value in inputs)
    rule = RULES.get(params["name"] if name == "composite" else name)
    if constant:
        results = _compute(equation, inputs)
        return [_with_steps(equation, *results)] if params.get("name") == FAKE_QUANT else results
    if rule is None and (inner := _inner(equation)) is not None:
        return lower(graph, inner.jaxpr, inner.consts, inputs)
    if name in _ELEMENTWISE:
        return [_elementwise(graph, name, list(map(_operand, inputs)))]
    if rule is None:
        raise InputError(f"ONNX export does not know the operation {name} of the network")
    result = rule(graph, equation, *inputs)
    return result if isinstance(result, list) else [result]


def _inner(equation: Any) -> Any:
    """Return the closed jaxpr of a function or of a composite, and None for other operations."""
    return equation.params.get("jaxpr", equation.params.get("call_jaxpr"))


def _with_steps(equation: Any, kernel: Any) -> Value:
    """Return a kernel that a composite has rounded, with its steps."""
    rounded = kernel.view(Rounded)
    rounded.steps = composite_attributes(equation)["scale"].astype(np.float32)
    return rounded


def _compute(equation: Any, inputs: Sequence[Any]) -> list[np.ndarray]:
    """Compute an operation on constants. What only repeats numbers is left to broadcasting."""
    name, shape = equation.primitive.name, equation.outvars[0].aval.shape
    if name == "reshape":
        return [inputs[0].reshape(shape)]
    if name == "broadcast_in_dim":
        axes = dict(zip(equation.params["broadcast_dimensions"], inputs[0].shape, strict=True))
        return [inputs[0].reshape([axes.get(axis, 1) for axis in range(len(shape))])]
    whole = [
        np.broadcast_to(value, atom.aval.shape)
        for value, atom in zip(inputs, equation.invars, strict=True)
    ]
    if (inner := _inner(equation)) is not None:  # compiled once, not each of its operations
        return list(map(np.asarray, run_jaxpr(inner, whole)))
    result = equation.primitive.bind(*whole, **equation.params)
    several = equation.primitive.multiple_results
    return [np.asarray(array) for array in (result if several else [result])]


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
