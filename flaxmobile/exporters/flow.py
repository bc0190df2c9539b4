"""Which layer reads which: a walk over a network's operations that also runs them."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

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

    array: Array
    number: float | None = None
    leaf: int | None = None
    layer: Layer | None = None
    is_product: bool = False
    limit: float = float("inf")
    peak: Array | None = None


Visit = Callable[[Any, Layer, Value, Value], None]
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

    traced = jax.make_jaxpr(flat)(leaves, images)
    inputs = [Value(array, leaf=number) for number, array in enumerate(leaves)]
    _run(traced.jaxpr, traced.consts, [*inputs, Value(images)], visit)


def _run(jaxpr: Any, constants: Sequence[Any], inputs: list[Value], visit: Visit) -> list[Value]:
    uses = Counter(
        atom
        for atoms in (*(each.invars for each in jaxpr.eqns), jaxpr.outvars)
        for atom in atoms
        if not hasattr(atom, "val")
    )
    values = dict(zip(jaxpr.constvars, map(Value, constants), strict=True))
    values.update(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> Value:
        if hasattr(atom, "val"):
            number = float(atom.val) if jnp.ndim(atom.val) == 0 else None
            return Value(jnp.asarray(atom.val, atom.aval.dtype), number)
        value = values[atom]
        return value if uses[atom] == 1 else dataclasses.replace(value, layer=None)

    for equation in jaxpr.eqns:
        results = _run_one(equation, [read(atom) for atom in equation.invars], visit)
        values.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _run_one(equation: Any, inputs: list[Value], visit: Visit) -> list[Value]:
    inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
    if inner is not None and equation.primitive.name != "scan":
        return _run(inner.jaxpr, inner.consts, inputs, visit)
    arrays = [value.array for value in inputs]
    result = equation.primitive.bind(*arrays, **equation.params)
    if equation.primitive.multiple_results:
        return [Value(array) for array in result]
    if equation.primitive.name in _LAYERS:
        return [_meet(equation, result, inputs, visit)]
    rule = _RULES.get(equation.primitive.name)
    return [rule(equation, result, inputs) if rule else Value(result)]


_LAYERS = {
    "conv_general_dilated": ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2)),
    "dot_general": (((1,), (0,)), ((), ())),
}
"""Operation -> its dimension numbers: a kernel is [kh, kw, in, out] or [in, out]."""


def _meet(equation: Any, result: Array, inputs: list[Value], visit: Visit) -> Value:
    x, kernel = inputs
    numbers = tuple(equation.params["dimension_numbers"])
    if kernel.leaf is None or numbers != _LAYERS[equation.primitive.name]:
        return Value(result)
    groups = equation.params.get("feature_group_count", 1)
    layer = Layer(kernel.leaf, groups, x.layer, x.limit)
    visit(equation, layer, x, kernel)
    return Value(result, layer=layer, is_product=True)


def _add(equation: Any, result: Array, inputs: list[Value]) -> Value:
    """Add a bias to a layer's outputs; after any other sum they are those of no layer alone."""
    for x, other in (inputs, inputs[::-1]):
        if x.layer and x.is_product and other.leaf is not None:
            x.layer.bias = other.leaf
            return Value(result, layer=x.layer)
    return Value(result)


def _cut_below(equation: Any, result: Array, inputs: list[Value]) -> Value:
    x, other = inputs if inputs[0].number is None else inputs[::-1]
    return _cut(result, x) if other.number == 0 else Value(result)


def _clamp(equation: Any, result: Array, inputs: list[Value]) -> Value:
    least, x, most = inputs
    if least.number != 0 or most.number is None:
        return Value(result)
    return _cut(result, x, most.number)


def _cut(result: Array, x: Value, limit: float = float("inf")) -> Value:
    if x.peak is not None:  # two activations are none that is known here
        return Value(result)
    peak = result.max(range(result.ndim - 1))
    return Value(result, layer=x.layer, limit=limit, peak=peak)


def _multiply(equation: Any, result: Array, inputs: list[Value]) -> Value:
    x, other = inputs if inputs[0].number is None else inputs[::-1]
    return _kept(result, x) if other.number is not None else Value(result)


def _divide(equation: Any, result: Array, inputs: list[Value]) -> Value:
    return _kept(result, inputs[0]) if inputs[1].number is not None else Value(result)


def _pad(equation: Any, result: Array, inputs: list[Value]) -> Value:
    return _kept(result, inputs[0]) if inputs[1].number == 0 else Value(result)


def _sum(equation: Any, result: Array, inputs: list[Value]) -> Value:
    """Add over pixels, which leaves the channels alone."""
    (x,) = inputs
    channels = x.array.ndim - 1
    return Value(result) if channels in equation.params["axes"] else _kept(result, x)


def _reshape(equation: Any, result: Array, inputs: list[Value]) -> Value:
    """Reshape; what keeps its last axis keeps its channels."""
    x = inputs[0]
    if result.shape[-1:] != x.array.shape[-1:]:
        return Value(result, number=x.number)
    return dataclasses.replace(x, array=result)


def _repeat(equation: Any, result: Array, inputs: list[Value]) -> Value:
    """Repeat along new axes or those of length 1; channels stay where they are the last axis."""
    axes = equation.params["broadcast_dimensions"]
    if axes and axes[-1] != result.ndim - 1:
        return Value(result, number=inputs[0].number)
    return _reshape(equation, result, inputs)


def _kept(result: Array, x: Value) -> Value:
    """Return what is still the outputs of x's layer, unless there are more channels now."""
    if result.shape[-1] != x.array.shape[-1]:
        return Value(result)
    return Value(result, layer=x.layer, limit=x.limit, peak=x.peak)


_RULES: dict[str, Callable[[Any, Array, list[Value]], Value]] = {
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
