"""ONNX: a network's own operations, for every runtime that reads opset 19 (2023)."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from flaxmobile.errors import InputError, pip_install
from flaxmobile.exporters.onnx.graph import Graph, channels_first, channels_last
from flaxmobile.exporters.onnx.lowering import lower
from flaxmobile.exporters.onnx.quantization import calibrate, store_integers
from flaxmobile.exporters.program import IMAGES, Program
from flaxmobile.versions import __version__

OPSET = 19  # the first whose average pooling can dilate
_IR_VERSION = 9  # of the release of ONNX that brought the opset


def write(program: Program, path: Path) -> None:
    """Write an .onnx file whose metadata_props have what is said about the network.

    Raises:
      InputError: onnx is not installed, or the program has an operation that is not known here.
    """
    try:
        import onnx
    except ImportError:
        raise InputError(f"ONNX files need onnx: {pip_install('export')}") from None
    graph = Graph()
    outputs = program.outputs
    closed = jax.make_jaxpr(program.function)(program.images)
    images = graph.transpose(IMAGES, channels_first(4))
    values = lower(graph, closed, [images])
    for (name, aval), value in zip(outputs.items(), values, strict=True):
        last = graph.transpose(str(value), channels_last(len(aval.shape)))
        _rename(graph, last, name)
    graph.keep_only(outputs)
    widening = _halve_weights(graph) if program.quantize == "float16" else []
    widening += store_integers(graph) if program.rounds else []
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            [*widening, *graph.nodes.values()],
            program.network,
            [_info(IMAGES, program.images)],
            [_info(name, aval) for name, aval in outputs.items()],
            [onnx.numpy_helper.from_array(array, name) for name, array in graph.constants.items()],
        ),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=_IR_VERSION,
        producer_name="flaxmobile",
        producer_version=__version__,
    )
    onnx.helper.set_model_props(model, program.describe_in_text())
    if program.calibration is not None:
        count = program.images.shape[0]
        size = count if isinstance(count, int) else 1
        model = calibrate(model, program.calibration, size, program.calibration_percentile)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def _halve_weights(graph: Graph) -> list[Any]:
    """Store kernels as float16; return the nodes that widen them, once, when a file is loaded."""
    from onnx import TensorProto, helper

    nodes = []
    for name in [name for name, array in graph.constants.items() if array.ndim > 1]:
        half = f"{name}_float16"
        graph.constants[half] = graph.constants.pop(name).astype(np.float16)
        nodes.append(helper.make_node("Cast", [half], [name], half, to=TensorProto.FLOAT))
    return nodes


def _rename(graph: Graph, old: str, new: str) -> None:
    """Give an array the name of an output, everywhere."""
    for node in graph.nodes.values():
        for names in (node.input, node.output):
            names[:] = [new if name == old else name for name in names]


def _info(name: str, aval: Any) -> Any:
    """Describe an input or output; the number of images may stay open."""
    from onnx import helper

    shape = [size if isinstance(size, int) else str(size) for size in aval.shape]
    return helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(np.dtype(aval.dtype)), shape
    )
