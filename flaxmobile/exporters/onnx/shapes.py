"""What moves numbers without computing: ONNX's operators for JAX's primitives of shape."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flaxmobile.compat import Operation
from flaxmobile.errors import InputError
from flaxmobile.exporters.onnx.graph import Graph, Rule, Value, channels_first, channels_last


def pads(padding: Sequence[tuple[int, int]]) -> list[int]:
    """ONNX's order of padding: before every axis, then after every axis."""
    return [low for low, _ in padding] + [high for _, high in padding]


def _reshape(graph: Graph, operation: Operation, x: Value) -> Value:
    new = operation.outputs[0].shape
    return _with_shape(graph, x, operation.inputs[0].shape, new)


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


def _broadcast(graph: Graph, operation: Operation, x: Value, *_: Value) -> Value:
    old, new = (aval.shape for aval in (*operation.inputs[:1], *operation.outputs))
    sizes = dict(zip(operation.params["broadcast_dimensions"], old, strict=True))
    thin = tuple(sizes.get(axis, 1) for axis in range(len(new)))
    x = _with_shape(graph, x, old, thin)
    if thin == new:
        return x
    wide = [size if isinstance(size, int) else 1 for size in new]
    return graph.add("Expand", x, np.asarray([wide[axis] for axis in channels_first(len(new))]))


def _permute(graph: Graph, operation: Operation, x: Value) -> Value:
    permutation = operation.params["permutation"]
    first = channels_first(len(permutation))
    if len(permutation) > 3 and tuple(permutation[:3]) == (0, 1, 2):
        place = {axis: i for i, axis in enumerate(first)}
        return graph.transpose(x, [place[permutation[axis]] for axis in first])
    x = graph.transpose(x, channels_last(len(permutation)))
    return graph.transpose(graph.transpose(x, permutation), first)


def _axis(operation: Operation, axis: int) -> int:
    """Where an axis of the first operand is stored."""
    return channels_first(len(operation.inputs[0].shape)).index(axis)


def _concatenate(graph: Graph, operation: Operation, *parts: Value) -> Value:
    whole = [
        np.broadcast_to(x, aval.shape).transpose(channels_first(x.ndim))
        if isinstance(x, np.ndarray)
        else x
        for x, aval in zip(parts, operation.inputs, strict=True)
    ]
    return graph.add("Concat", *whole, axis=_axis(operation, operation.params["dimension"]))


def _split(graph: Graph, operation: Operation, x: Value) -> list[Value]:
    sizes, axis = operation.params["sizes"], _axis(operation, operation.params["axis"])
    return list(graph.add("Split", x, np.asarray(sizes), outputs=len(sizes), axis=axis))


def _pad(graph: Graph, operation: Operation, x: Value, value: Value) -> Value:
    config = operation.params["padding_config"]
    if any(interior for *_, interior in config):
        raise InputError("ONNX export does not know padding between pixels")
    moved = [config[axis][:2] for axis in channels_first(len(config))]
    return graph.add("Pad", x, np.asarray(pads(moved)), value)


def _slice(graph: Graph, operation: Operation, x: Value) -> Value:
    p, shape = operation.params, operation.inputs[0].shape
    steps = p["strides"] or (1,) * len(shape)
    spans = zip(p["start_indices"], p["limit_indices"], steps, strict=True)
    cut = {i: span for i, span in enumerate(spans) if span != (0, shape[i], 1)}
    if not cut:
        return x
    starts, ends, strides = map(np.asarray, zip(*cut.values(), strict=True))
    axes = np.asarray([_axis(operation, axis) for axis in cut])
    return graph.add("Slice", x, starts, ends, axes, strides)


def _reverse(graph: Graph, operation: Operation, x: Value) -> Value:
    for axis in operation.params["dimensions"]:
        indices = np.arange(operation.inputs[0].shape[axis])[::-1]
        x = graph.add("Gather", x, indices, axis=_axis(operation, axis))
    return x


def _gather(graph: Graph, operation: Operation, x: Value, indices: Value) -> Value:
    """Pick constant indices of one axis."""
    numbers, shape = operation.params["dimension_numbers"], operation.inputs[0].shape
    axes = numbers.start_index_map
    rest = set(range(len(shape))) - set(numbers.offset_dims)
    picks = (
        len(axes) == 1 and tuple(numbers.collapsed_slice_dims) == tuple(axes) and rest == {*axes}
    )
    if not picks or not isinstance(indices, np.ndarray):
        raise InputError("ONNX export knows picking constant indices of one axis alone")
    return graph.add(
        "Gather", x, indices.reshape(-1).astype(np.int64), axis=_axis(operation, axes[0])
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
"""Primitive -> what it appends, from the graph, operation and inputs."""
