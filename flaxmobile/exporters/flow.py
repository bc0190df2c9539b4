"""Which layer reads which: a walk over a network's operations that also runs them."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import Array

from flaxmobile.compat import Operation, walk_jaxpr
from flaxmobile.trees import Tree

Outputs = Callable[[Tree, Array], Any]
"""Variables, images -> outputs of a network."""


@dataclasses.dataclass
class Layer:
    """A convolution or product whose kernel is a variable.

    Attributes:
      kernel: number of the kernel's leaf among the variables.
      groups: of the convolution.
      before: the layer whose outputs are its inputs and nothing else's. Between the two lie at most
        a bias, an activation that cuts off, padding by 0, and a mean over pixels. None where others
        read these outputs too.
      limit: number at which the activation between them cuts off; infinity where none does.
      bias: number of the bias's leaf; None without.
    """

    kernel: int
    groups: int
    before: "Layer | None"
    limit: float
    bias: int | None = None


@dataclasses.dataclass(frozen=True)
class Value:
    """An array, and what it comes from.

    Attributes:
      array: its numbers.
      number: of which the array is made, where it is a constant.
      leaf: number of the variable that it repeats.
      layer: the one whose outputs it holds, see `Layer.before`.
      is_product: it holds them as they are, before a bias.
      limit: see `Layer.limit`.
      peak: largest output of each channel of the layer behind the activation; None before it.
    """

    array: Array | np.ndarray
    number: float | None = None
    leaf: int | None = None
    layer: Layer | None = None
    is_product: bool = False
    limit: float = float("inf")
    peak: Array | None = None


Visit = Callable[[Operation, Layer, Value, Value], None]
"""Operation, layer, its input, its kernel."""


def walk(function: Outputs, variables: Tree, images: Array, visit: Visit) -> None:
    """Run a network in native form, and visit its layers in order.

    Args:
      function: of the network.
      variables: its variables.
      images: [n, h, w, c].
      visit: called for each layer.
    """
    leaves, structure = jax.tree.flatten(variables)

    def flat(leaves: list[Array], images: Array) -> Any:
        return function(jax.tree.unflatten(structure, leaves), images)

    inputs = [Value(array, leaf=number) for number, array in enumerate(leaves)]
    _walk(jax.make_jaxpr(flat)(leaves, images), [*inputs, Value(images)], visit)


def _walk(jaxpr: Any, inputs: list[Value], visit: Visit) -> list[Value]:
    return walk_jaxpr(jaxpr, inputs, partial(_run, visit), _read)


def _read(value: Value | np.ndarray, uses: int) -> Value:
    if isinstance(value, np.ndarray):
        return Value(value, number=None if value.ndim else float(value))
    return value if uses == 1 else dataclasses.replace(value, layer=None)


def _run(visit: Visit, operation: Operation, inputs: list[Value]) -> list[Value]:
    if operation.inner is not None:
        return _walk(operation.inner, inputs, visit)
    results = operation.run([value.array for value in inputs])
    if operation.name in _LAYERS:
        return [_meet(operation, results[0], inputs, visit)]
    if rule := _RULES.get(operation.name):
        return [rule(operation, results[0], inputs)]
    return list(map(Value, results))


_LAYERS = {
    "conv_general_dilated": ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2)),
    "dot_general": (((1,), (0,)), ((), ())),
}
"""Operation -> its dimension numbers: a kernel is [kh, kw, in, out] or [in, out]."""


def _meet(operation: Operation, result: Array, inputs: list[Value], visit: Visit) -> Value:
    x, kernel = inputs
    numbers = tuple(operation.params["dimension_numbers"])
    if kernel.leaf is None or numbers != _LAYERS[operation.name]:
        return Value(result)
    groups = operation.params.get("feature_group_count", 1)
    layer = Layer(kernel.leaf, groups, x.layer, x.limit)
    visit(operation, layer, x, kernel)
    return Value(result, layer=layer, is_product=True)


def _add(operation: Operation, result: Array, inputs: list[Value]) -> Value:
    """Add a bias to a layer's outputs; after any other sum they are those of no layer alone."""
    for x, other in (inputs, inputs[::-1]):
        if x.layer and x.is_product and other.leaf is not None:
            x.layer.bias = other.leaf
            return Value(result, layer=x.layer)
    return Value(result)


def _cut_below(operation: Operation, result: Array, inputs: list[Value]) -> Value:
    x, other = inputs if inputs[0].number is None else inputs[::-1]
    return _cut(result, x) if other.number == 0 else Value(result)


def _clamp(operation: Operation, result: Array, inputs: list[Value]) -> Value:
    least, x, most = inputs
    if least.number != 0 or most.number is None:
        return Value(result)
    return _cut(result, x, most.number)


def _cut(result: Array, x: Value, limit: float = float("inf")) -> Value:
    if x.peak is not None:  # two activations are none that is known here
        return Value(result)
    peak = result.max(range(result.ndim - 1))
    return Value(result, layer=x.layer, limit=limit, peak=peak)


def _multiply(operation: Operation, result: Array, inputs: list[Value]) -> Value:
    x, other = inputs if inputs[0].number is None else inputs[::-1]
    return _kept(result, x) if other.number is not None else Value(result)


def _divide(operation: Operation, result: Array, inputs: list[Value]) -> Value:
    return _kept(result, inputs[0]) if inputs[1].number is not None else Value(result)


def _pad(operation: Operation, result: Array, inputs: list[Value]) -> Value:
    return _kept(result, inputs[0]) if inputs[1].number == 0 else Value(result)


def _sum(operation: Operation, result: Array, inputs: list[Value]) -> Value:
    """Add over pixels, which leaves the channels alone."""
    (x,) = inputs
    channels = x.array.ndim - 1
    return Value(result) if channels in operation.params["axes"] else _kept(result, x)


def _reshape(operation: Operation, result: Array, inputs: list[Value]) -> Value:
    """Reshape; what keeps its last axis keeps its channels."""
    x = inputs[0]
    if result.shape[-1:] != x.array.shape[-1:]:
        return Value(result, number=x.number)
    return dataclasses.replace(x, array=result)


def _repeat(operation: Operation, result: Array, inputs: list[Value]) -> Value:
    """Repeat along new axes or those of length 1; channels stay where they are the last axis."""
    axes = operation.params["broadcast_dimensions"]
    if axes and axes[-1] != result.ndim - 1:
        return Value(result, number=inputs[0].number)
    return _reshape(operation, result, inputs)


def _kept(result: Array, x: Value) -> Value:
    """Return what is still the outputs of x's layer, unless there are more channels now."""
    if result.shape[-1] != x.array.shape[-1]:
        return Value(result)
    return Value(result, layer=x.layer, limit=x.limit, peak=x.peak)


_RULES: dict[str, Callable[[Operation, Array, list[Value]], Value]] = {
    "add": _add,
    "broadcast_in_dim": _repeat,
    "clamp": _clamp,
    "convert_element_type": _reshape,
    "copy": _reshape,
    "div": _divide,
    "max": _cut_below,
    "mul": _multiply,
    "pad": _pad,
    "reduce_sum": _sum,
    "reshape": _reshape,
    "squeeze": _reshape,
}
