"""Every network on a phone's and a server's runtime, operator by operator."""

from collections import Counter

import jax
import numpy as np
import onnx
import pytest

from flaxmobile import Metadata, Preprocessing, export, fold_batch_norm, list_models, summarize
from flaxmobile.exporters.litert.writing import operators
from tests.exporters.runtimes import assert_close, run_litert, run_onnx
from tests.networks import random_variables, short_model, small_size

MOVES = {
    "shufflenet_v1": {"TRANSPOSE": 4, "RESHAPE": 8},  # shuffles
    "shufflenet_v2": {"TRANSPOSE": 4, "RESHAPE": 8, "SLICE": 2},  # and a split into halves
    "ic_conv": {"TRANSPOSE": 2, "GATHER_ND": 1},  # channels back in their order
}
"""Network -> operators that move numbers, of LiteRT, in its short form."""
JOINTS = {"shufflenet_v1": 3, "xception": 4}
"""Network -> activations that no convolution precedes, of its short form."""
PIECES = {"ic_conv": 4}
"""Network -> convolutions more than layers: a layer with several dilations is one for each."""


@pytest.mark.parametrize("name", list_models())
def test_a_network_is_one_operator_for_each_of_its_layers(name, tmp_path):
    model, variables = short_model(name), random_variables(short_model(name))
    size = small_size(name)
    images = np.random.default_rng(0).normal(size=(1, size, size, 3)).astype(np.float32)
    model, variables = fold_batch_norm(model, variables)
    native = jax.jit(model.clone(native=True).apply)  # half as long to compile
    expected = {"logits": np.asarray(native(variables, images))}
    rows = summarize(model, size).rows
    layers = Counter(row.kind.split()[0] for row in rows if row.macs)
    for format, run in (("litert", run_litert), ("onnx", run_onnx)):
        path, metadata = tmp_path / format, Metadata(Preprocessing(size))
        export(model, variables, path, format, metadata=metadata)
        assert_close(run(path, images), expected)
    litert = Counter(operators((tmp_path / "litert").read_bytes()))
    nodes = onnx.load(tmp_path / "onnx").graph.node
    _check_litert(name, layers, litert)
    _check_onnx(name, layers, nodes)
    sums = Counter(node.op_type for node in nodes)["Add"]
    assert sums == litert["ADD"]  # of blocks and shortcuts: biases are in the convolutions


def _check_litert(name, layers, found):
    assert found["DEPTHWISE_CONV_2D"] == layers["depthwise"]
    assert found["CONV_2D"] == layers["conv"] + PIECES.get(name, 0)
    assert found["FULLY_CONNECTED"] == layers["dense"]
    moves = ("TRANSPOSE", "RESHAPE", "SLICE", "STRIDED_SLICE", "GATHER", "GATHER_ND", "SPLIT")
    assert {each: found[each] for each in moves if found[each]} == MOVES.get(name, {})
    activations = found["RELU"] + found["RELU6"] + found["MAXIMUM"] + found["MINIMUM"]
    assert activations == JOINTS.get(name, 0)
    assert (found["HARD_SWISH"] > 0) == name.startswith("mobilenet_v3")


def _check_onnx(name, layers, nodes):
    found = Counter(node.op_type for node in nodes)
    assert found["Conv"] == layers["conv"] + layers["depthwise"] + PIECES.get(name, 0)
    assert found["Gemm"] + found["MatMul"] == layers["dense"]
    assert found["Transpose"] == 1 + (MOVES[name]["TRANSPOSE"] if "shuffle" in name else 0)
    grouped = [node for node in nodes if node.op_type == "Conv" and _group(node) > 1]
    assert len(grouped) >= layers["depthwise"]
    assert (found["HardSwish"] > 0) == (found["HardSigmoid"] > 0) == name.startswith("mobilenet_v3")


def _group(node):
    return next(each.i for each in node.attribute if each.name == "group")
