"""ONNX files in int8: with the ranges that images give, or those of training."""

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flaxmobile.errors import InputError, first_line, pip_install
from flaxmobile.exporters.onnx.graph import Graph, Rounded
from flaxmobile.exporters.program import IMAGES


def calibrate(model: Any, images: np.ndarray, batch_size: int, percentile: float) -> Any:
    """Round kernels and activations to int8 by ONNX Runtime: a scale for each output channel.

    The range of every activation is the least and the largest number that the images give, or that
    a percentage of them does. Input and output stay as they are.

    Args:
      model: an ONNX model, a ModelProto.
      images: [k, h, w, c], as the model takes them.
      batch_size: number of images that it takes at once.
      percentile: see `flaxmobile.export`.

    Raises:
      InputError: onnxruntime is not installed, or cannot quantize the network.
    """
    try:
        from onnxruntime import quantization
    except ImportError:
        raise InputError(f"int8 of ONNX needs onnxruntime: {pip_install('export')}") from None
    import onnx

    padded = np.resize(images, (-(-len(images) // batch_size) * batch_size, *images.shape[1:]))
    batches = np.split(padded, len(padded) // batch_size)
    rest = iter(batches)

    class Reader(quantization.CalibrationDataReader):
        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(rest, None)
            return None if batch is None else {IMAGES: batch}

    with tempfile.TemporaryDirectory() as folder, _silence():
        rounded = Path(folder) / "int8.onnx"
        try:
            quantization.quantize_static(
                model,
                rounded,
                Reader(),
                per_channel=True,
                activation_type=quantization.QuantType.QInt8,
                weight_type=quantization.QuantType.QInt8,
                extra_options=_given_ranges(model, batches, percentile),
            )
        except (ValueError, RuntimeError) as error:
            reason = first_line(error)
            raise InputError(f"the network cannot be computed in int8: {reason}") from error
        result = onnx.load(rounded)
    onnx.helper.set_model_props(result, {each.key: each.value for each in model.metadata_props})
    return result


def _given_ranges(model: Any, batches: Sequence[np.ndarray], percentile: float) -> dict[str, Any]:
    """Return options with the ranges that hold the ends of a percentage of the images."""
    if percentile == 100:
        return {}
    import onnx
    import onnxruntime

    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    known = {each.name for each in whole.graph.output}
    names = [name for node in whole.graph.node for name in node.output if name not in known]
    whole.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(whole.SerializeToString())
    seen: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for batch in batches:
        maps = [batch, *session.run(names, {IMAGES: batch})]
        for name, numbers in zip((IMAGES, *names), maps, strict=True):
            if numbers.dtype == np.float32 and numbers.shape[0] == len(batch):
                of_images = numbers.reshape(len(batch), -1)
                seen.setdefault(name, []).append((of_images.min(1), of_images.max(1)))
    ranges = {}
    for name, ends in seen.items():
        low, high = map(np.concatenate, zip(*ends, strict=True))
        low, high = np.percentile(low, 100 - percentile), np.percentile(high, percentile)
        ranges[name] = [{"rmin": np.float32(low), "rmax": np.float32(high)}]
    return {"TensorQuantOverrides": ranges}


def store_integers(graph: Graph) -> list[Any]:
    """Store the rounded kernels of a network as int8, and biases behind rounded inputs as int32.

    Returns:
      The nodes that turn them into numbers; runtimes compute in integers instead.
    """
    nodes: list[Any] = []
    for node in graph.nodes.values():
        kernel = graph.constants.get(node.input[1]) if len(node.input) > 1 else None
        if not isinstance(kernel, Rounded):
            continue
        axis = 0 if node.op_type == "Conv" else 1
        wide = np.expand_dims(kernel.steps, [each for each in range(kernel.ndim) if each != axis])
        integers = np.rint(np.asarray(kernel) / wide).astype(np.int8)
        nodes += _stored(graph, node, 1, integers, kernel.steps, axis)
        before = graph.made_by(node.input[0], "DequantizeLinear")
        if len(node.input) > 2 and before:
            products = np.asarray(before[0][1], np.float32) * kernel.steps
            integers = np.rint(graph.constants[node.input[2]] / products).astype(np.int32)
            nodes += _stored(graph, node, 2, integers, products, 0)
    used = {name for node in (*nodes, *graph.nodes.values()) for name in node.input}
    graph.constants = {name: array for name, array in graph.constants.items() if name in used}
    return nodes


def _stored(
    graph: Graph, node: Any, place: int, integers: np.ndarray, steps: np.ndarray, axis: int
) -> list[Any]:
    """Let an input of a node be integers times steps."""
    from onnx import helper

    name = f"{node.name}_{place}"
    values = {"integers": integers, "steps": steps}
    if integers.dtype == np.int8:  # ONNX Runtime's exact mode of older x86 CPUs has no default
        values["zeros"] = np.zeros(len(steps), np.int8)
    inputs = [f"{name}_{each}" for each in values]
    graph.constants |= dict(zip(inputs, values.values(), strict=True))
    node.input[place] = name
    return [helper.make_node("DequantizeLinear", inputs, [name], name, axis=axis)]


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep advice about a preparation that these files do not need to the library."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
