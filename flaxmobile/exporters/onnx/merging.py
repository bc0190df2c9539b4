"""Operators of ONNX that stand for several primitives of JAX."""

from collections.abc import Callable, Mapping

import numpy as np

from flaxmobile.exporters.onnx.graph import Graph, Value, attributes


def merge(graph: Graph, primitive: str, x: Value, y: Value) -> Value | None:
    """Merge an elementwise operation into the operator before it, where ONNX has both in one.

    The operator before stays in the graph, for others that read it.

    Returns:
      The result, or None where there is no such operator.
    """
    if primitive in ("add", "mul", "max") and isinstance(x, np.ndarray):
        x, y = y, x
    rule = _MERGED.get(primitive)
    return rule(graph, x, y) if rule else None


def _merge_bias(graph: Graph, x: Value, bias: Value) -> Value | None:
    """Make a constant per channel the bias of the convolution or product before it."""
    if not isinstance(bias, np.ndarray):
        return None
    if (found := graph.made_by(x, "Conv")) and len(found[0]) == 2:
        (images, kernel), node = found
        if bias.ndim == 4 and bias.shape[1] == bias.size == len(kernel):
            return graph.add("Conv", images, kernel, bias.reshape(-1), **attributes(node))
    if (found := graph.made_by(x, "MatMul")) and bias.ndim == 2 and len(bias) == 1:
        return graph.add("Gemm", *found[0], bias[0])
    return None


def _merge_factor(graph: Graph, x: Value, y: Value) -> Value | None:
    """Recognize hard-sigmoid, hard-swish, and two constant factors in a row."""
    if isinstance(y, np.ndarray):
        return _hard_sigmoid(graph, x, y) or _scale(graph, x, y.astype(np.float64))
    for images, gate in ((x, y), (y, x)):
        if (found := graph.made_by(gate, "HardSigmoid")) and found[0] == [images]:
            return graph.add("HardSwish", images)
    return None


def _merge_divisor(graph: Graph, x: Value, divisor: Value) -> Value | None:
    """Recognize softmax, and a sum, which is a mean times a constant, over a constant."""
    if isinstance(divisor, np.ndarray):
        return _scale(graph, x, 1 / divisor.astype(np.float64))
    return _softmax(graph, x, divisor)


def _merge_bound(graph: Graph, x: Value, bound: Value) -> Value | None:
    zero = isinstance(bound, np.ndarray) and not bound.any()
    return graph.add("Relu", x) if zero else None


def _scale(graph: Graph, x: Value, factor: np.ndarray) -> Value | None:
    """Multiply what was multiplied by a constant by another one, rounded once."""
    found = graph.made_by(x, "Mul")
    if not found:
        return None
    inner, own = found[0]
    if not isinstance(own, np.ndarray):
        return None
    product = np.asarray(own * factor, own.dtype)
    return inner if (product == 1).all() else graph.add("Mul", inner, product)


def _hard_sigmoid(graph: Graph, x: Value, factor: np.ndarray) -> Value | None:
    """Recognize clip(x + 3, 0, 6) / 6."""
    clip = graph.made_by(x, "Clip")
    shifted = clip and graph.made_by(clip[0][0], "Add")
    if not clip or not shifted or factor.size != 1 or not np.isclose(factor, 1 / 6):
        return None
    (_, low, high), (inner, shift) = clip[0], shifted[0]
    if (low, high) != (0, 6) or not isinstance(shift, np.ndarray) or shift.size != 1 or shift != 3:
        return None
    return graph.add("HardSigmoid", inner, alpha=1 / 6, beta=0.5)


def _softmax(graph: Graph, x: Value, total: Value) -> Value | None:
    """Recognize exp(z - max(z)) / sum(exp(z - max(z))) over the classes."""
    powers, reshaped = graph.made_by(x, "Exp"), graph.made_by(total, "Reshape")
    shifted = powers and graph.made_by(powers[0][0], "Sub")
    summed = reshaped and graph.made_by(reshaped[0][0], "ReduceSum")
    if not shifted or not summed or summed[0][0] != x:
        return None
    logits, most = shifted[0]
    return graph.add("Softmax", logits) if graph.made_by(most, "Reshape") else None


_MERGED: Mapping[str, Callable[[Graph, Value, Value], Value | None]] = {
    "add": _merge_bias,
    "mul": _merge_factor,
    "div": _merge_divisor,
    "max": _merge_bound,
}
