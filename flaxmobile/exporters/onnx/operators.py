"""JAX's primitives as ONNX's operators: those that networks in native form consist of."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from flaxmobile.compat import Operation
from flaxmobile.errors import InputError
from flaxmobile.exporters.onnx.graph import Graph, Rule, Value, channels_first, channels_last
from flaxmobile.exporters.onnx.shapes import SHAPES, pads
from flaxmobile.layers.quantization import FAKE_QUANT
from flaxmobile.layers.resizing import INTERPOLATION

_IMAGES = ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))
"""Dimension numbers of a convolution of NHWC images with an HWIO kernel."""


def _convolve(graph: Graph, operation: Operation, x: Value, kernel: Value) -> Value:
    p = operation.params
    plain = tuple(p["dimension_numbers"]) == _IMAGES and set(p["lhs_dilation"]) == {1}
    if not plain or p["batch_group_count"] != 1 or not isinstance(kernel, np.ndarray):
        raise InputError("ONNX export knows convolutions of images with constant kernels alone")
    return graph.add(
        "Conv",
        x,
        kernel.transpose(3, 2, 0, 1),
        group=p["feature_group_count"],
        strides=p["window_strides"],
        dilations=p["rhs_dilation"],
        pads=pads(p["padding"]),
    )


def _pool(operator: str, factor: bool) -> Rule:
    """Make the rule of a reduction over windows; a sum is the mean times the window's area."""

    def rule(graph: Graph, operation: Operation, x: Value, *_: Value) -> Value:
        p = operation.params
        size = p["window_dimensions"]
        if len(size) != 4 or {size[0], size[3]} != {1} or set(p["base_dilation"]) != {1}:
            raise InputError("ONNX export knows pooling over the height and width of images alone")
        options: dict[str, Any] = {"count_include_pad": 1} if factor else {}
        if set(dilations := p["window_dilation"][1:3]) != {1}:  # int8 pooling knows none
            options["dilations"] = dilations
        pooled = graph.add(
            operator,
            x,
            kernel_shape=size[1:3],
            strides=p["window_strides"][1:3],
            pads=pads(p["padding"][1:3]),
            **options,
        )
        area = np.asarray(math.prod(size), operation.outputs[0].dtype)
        return graph.add("Mul", pooled, area) if factor else pooled

    return rule


def _reduce(operator: str) -> Rule:
    def rule(graph: Graph, operation: Operation, x: Value) -> Value:
        (aval,), axes = operation.inputs, operation.params["axes"]
        if operator == "ReduceSum" and tuple(axes) == (1, 2) and len(aval.shape) == 4:
            mean = graph.add("ReduceMean", x, np.asarray([2, 3]), keepdims=0)
            return graph.add("Mul", mean, np.asarray(math.prod(aval.shape[1:3]), aval.dtype))
        value = graph.transpose(x, channels_last(len(aval.shape)))
        reduced = graph.add(operator, value, np.asarray(axes), keepdims=0)
        return graph.transpose(reduced, channels_first(len(operation.outputs[0].shape)))

    return rule


def _multiply(graph: Graph, operation: Operation, x: Value, y: Value) -> Value:
    """Multiply matrices, or sum products over other axes, as the resizing of maps does."""
    contracted, batch = operation.params["dimension_numbers"]
    ranks = [len(aval.shape) for aval in operation.inputs]
    if (contracted, batch) == (((1,), (0,)), ((), ())) and ranks == [2, 2]:
        return graph.add("MatMul", x, y)
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    left, right = ([next(letters) for _ in range(rank)] for rank in ranks)
    for mine, other in (*zip(*contracted, strict=True), *zip(*batch, strict=True)):
        right[other] = left[mine]
    result = [left[axis] for axis in batch[0]]
    result += [each for each in left if each not in right]
    result += [each for each in right if each not in left]
    ours, theirs = (
        axes if isinstance(value, np.ndarray) else _stored(axes)
        for value, axes in ((x, left), (y, right))
    )
    sums = f"{''.join(ours)},{''.join(theirs)}->{''.join(_stored(result))}"
    return graph.add("Einsum", x, y, equation=sums)


def _stored(axes: list[str]) -> list[str]:
    """Put the axes of an array in the order in which the graph stores it."""
    return [axes[axis] for axis in channels_first(len(axes))]


def _interpolate(graph: Graph, operation: Operation, x: Value) -> Value:
    """Resize images by bilinear interpolation; centres of pixels lie between their edges.

    By factors of all axes, not by the sizes of two: ONNX Runtime 1.32 moves transpositions behind
    such a node in int8, and then refuses it.
    """
    before, after = (aval.shape[1:3] for aval in (operation.inputs[0], operation.outputs[0]))
    factors = [1, 1, *(_factor(*sizes) for sizes in zip(before, after, strict=True))]
    return graph.add(
        "Resize", x, "", np.asarray(factors, np.float32), mode="linear",
        coordinate_transformation_mode="half_pixel",
    )  # fmt: skip


def _factor(before: int, after: int) -> np.float32:
    """Return the factor by which a size becomes another, rounded down in either float type."""
    factor = np.float32(after / before)
    return factor if before * float(factor) >= after else np.nextafter(factor, np.float32(np.inf))


def _round(graph: Graph, operation: Operation, x: Value) -> Value:
    """Round an activation to the steps of its range."""
    steps = operation.attributes
    scale, zero = np.float32(steps["scale"].item()), np.int8(steps["zero_point"].item())
    ends = np.asarray(scale), np.asarray(zero)
    return graph.add("DequantizeLinear", graph.add("QuantizeLinear", x, *ends), *ends)


def _cast(graph: Graph, operation: Operation, x: Value) -> Value:
    from onnx import helper

    old, new = (np.dtype(aval.dtype) for aval in (*operation.inputs, *operation.outputs))
    return x if old == new else graph.add("Cast", x, to=helper.np_dtype_to_tensor_dtype(new))


def _complement(graph: Graph, operation: Operation, x: Value) -> Value:
    """Compute erfc as 1 − erf."""
    return graph.add("Sub", _one(operation), graph.add("Erf", x))


def _exponent_less_one(graph: Graph, operation: Operation, x: Value) -> Value:
    return graph.add("Sub", graph.add("Exp", x), _one(operation))


def _one(operation: Operation) -> np.ndarray:
    return np.ones((), operation.outputs[0].dtype)


def _same(graph: Graph, operation: Operation, x: Value, *_: Value) -> Value:
    return x


RULES: Mapping[str, Rule] = {
    **SHAPES,
    "clamp": lambda graph, _, low, x, high: graph.add("Clip", x, low, high),
    "conv_general_dilated": _convolve,
    "convert_element_type": _cast,
    "copy": _same,
    "dot_general": _multiply,
    "erfc": _complement,
    "expm1": _exponent_less_one,
    "reduce_max": _reduce("ReduceMax"),
    "reduce_sum": _reduce("ReduceSum"),
    "reduce_window_max": _pool("MaxPool", factor=False),
    "reduce_window_sum": _pool("AveragePool", factor=True),
    "select_n": lambda graph, _, which, no, yes: graph.add("Where", which, yes, no),
    "stop_gradient": _same,
    FAKE_QUANT: _round,
    INTERPOLATION: _interpolate,
}
"""Primitive, or name of a composite -> what it appends, from the graph, operation and inputs."""
