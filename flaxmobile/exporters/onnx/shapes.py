"""What moves numbers without computing: ONNX's operators for JAX's primitives of shape."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flaxmobile.errors import InputError
from flaxmobile.exporters.onnx.graph import Graph, Rule, Value, channels_first, channels_last


def pads(padding: Sequence[tuple[int, int]]) -> list[int]:
    """ONNX's order of padding: before every axis, then after every axis."""
    return [low for low, _ in padding] + [high for _, high in padding]


def _reshape(graph: Graph, equation: Any, x: Value) -> Value:
    new = equation.outvars[0].aval.shape
    return _with_shape(graph, x, equation.invars[0].aval.shape, new)


def _with_shape(graph: Graph, x: Value, old: Sequence[Any], new: Sequence[Any]) -> Value:
    """Reshape from one of XLA's shapes to another; channels stay first where they can."""
    order = channels_first(len(new))
    if len(new) > 3 and (old[:3] == new[:3] if len(old) > 3 else new[1:3] == (1, 1)):
        return graph.add("Reshape", x, _sizes([new[axis] for axis in order]))
    if len(old) < 4 or old[1:3] != (1, 1):
        x = graph.transpose(x, channels_last(len(old)))
    return graph.transpose(graph.add("Reshape", x, _sizes(new)), order)


def _sizes(shape: Sequence[Any]) -> np.ndarray:
    """Return the sizes of axes, -1 for the number of images where it is open."""
    return np.asarray([size if isinstance(size, int) else -1 for size in shape])


def _broadcast(graph: Graph, equation: Any, x: Value, *_: Value) -> Value:
    old, new = (v.aval.shape for v in (*equation.invars[:1], *equation.outvars))
    sizes = dict(zip(equation.params["broadcast_dimensions"], old, strict=True))
    thin = tuple(sizes.get(axis, 1) for axis in range(len(new)))
    x = _with_shape(graph, x, old, thin)
    if thin == new:
        return x
    wide = [size if isinstance(size, int) else 1 for size in new]
    return graph.add("Expand", x, np.asarray([wide[axis] for axis in channels_first(len(new))]))


def _permute(graph: Graph, equation: Any, x: Value) -> Value:
    permutation = equation.params["permutation"]
    first = channels_first(len(permutation))
    if len(permutation) > 3 and tuple(permutation[:3]) == (0, 1, 2):
        place = {axis: i for i, axis in enumerate(first)}
        return graph.transpose(x, [place[permutation[axis]] for axis in first])
    x = graph.transpose(x, channels_last(len(permutation)))
    return graph.transpose(graph.transpose(x, permutation), first)


def _axis(equation: Any, axis: int) -> int:
    """Where an axis of the first operand is stored."""
    return channels_first(len(equation.invars[0].aval.shape)).index(axis)


def _concatenate(graph: Graph, equation: Any, *parts: Value) -> Value:
    whole = [
        np.broadcast_to(x, atom.aval.shape).transpose(channels_first(x.ndim))
        if isinstance(x, np.ndarray)
        else x
        for x, atom in zip(parts, equation.invars, strict=True)
    ]
    return graph.add("Concat", *whole, axis=_axis(equation, equation.params["dimension"]))


def _split(graph: Graph, equation: Any, x: Value) -> list[Value]:
    sizes, axis = equation.params["sizes"], _axis(equation, equation.params["axis"])
    return list(graph.add("Split", x, np.asarray(sizes), outputs=len(sizes), axis=axis))


def _pad(graph: Graph, equation: Any, x: Value, value: Value) -> Value:
    config = equation.params["padding_config"]
    if any(interior for *_, interior in config):
        raise InputError("ONNX export does not know padding between pixels")
    moved = [config[axis][:2] for axis in channels_first(len(config))]
    return graph.add("Pad", x, np.asarray(pads(moved)), value)


def _slice(graph: Graph, equation: Any, x: Value) -> Value:
    p, shape = equation.params, equation.invars[0].aval.shape
    steps = p["strides"] or (1,) * len(shape)
    spans = zip(p["start_indices"], p["limit_indices"], steps, strict=True)
    cut = {i: span for i, span in enumerate(spans) if span != (0, shape[i], 1)}
    if not cut:
        return x
    starts, ends, strides = map(np.asarray, zip(*cut.values(), strict=True))
    axes = np.asarray([_axis(equation, axis) for axis in cut])
    return graph.add("Slice", x, starts, ends, axes, strides)


def _reverse(graph: Graph, equation: Any, x: Value) -> Value:
    for axis in equation.params["dimensions"]:
        indices = np.arange(equation.invars[0].aval.shape[axis])[::-1]
        x = graph.add("Gather", x, indices, axis=_axis(equation, axis))
    return x


def _gather(graph: Graph, equation: Any, x: Value, indices: Value) -> Value:
    """Pick constant indices of one axis."""
    numbers, shape = equation.params["dimension_numbers"], equation.invars[0].aval.shape
    axes = numbers.start_index_map
    rest = set(range(len(shape))) - set(numbers.offset_dims)
    picks = (
        len(axes) == 1 and tuple(numbers.collapsed_slice_dims) == tuple(axes) and rest == {*axes}
    )
    if not picks or not isinstance(indices, np.ndarray):
        raise InputError("ONNX export knows picking constant indices of one axis alone")
    return graph.add(
        "Gather", x, indices.reshape(-1).astype(np.int64), axis=_axis(equation, axes[0])
    )


SHAPES: Mapping[str, Rule] = {
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenate,
    "gather": _gather,
    "pad": _pad,
    "reshape": _reshape,
    "rev": _reverse,
    "slice": _slice,
    "split": _split,
    "squeeze": _reshape,
    "transpose": _permute,
}
"""Primitive -> what it appends, from the graph, equation and inputs."""
