"""Reading TFLite files: whatever the bytes are, constants by name or one line."""

import random
import sys

import jax
import numpy as np
import pytest

from convert.conversion import convert_file
from convert.formats.tflite import read_tflite
from convert.rules import RULES
from convert.sources import read_source
from flaxmobile import InputError
from flaxmobile.folding import fold_batch_norm
from tests.convert.commands import refusal
from tests.convert.tflite_writer import Sparse, encode_tflite
from tests.networks import random_variables, small_model

KERNEL = np.arange(24, dtype=np.float32).reshape(2, 3, 1, 4)
BIAS = np.asarray([0.5, -1.0], np.float32)
PADDINGS = ("channel_padding/Paddings", np.zeros((4, 2), np.int32))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.tflite"


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_constants_are_read_by_name_and_paddings_are_none(path, dtype):
    constants = [("conv2d/Kernel", KERNEL.astype(dtype)), ("conv2d/Bias", BIAS.astype(dtype))]
    path.write_bytes(encode_tflite([*constants, PADDINGS]))
    found = read_source(path)
    assert list(found.tensors) == ["conv2d/Kernel", "conv2d/Bias"]
    for array, expected in zip(found.tensors.values(), (KERNEL, BIAS), strict=True):
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, expected)
    assert found.precision == np.dtype(dtype).name


def test_layers_without_names_are_taken_in_their_order(path):
    """As TensorFlow 2.21 writes Keras's V1, V2 and V3, of which real files were read once.

    The variables were those that `fold_batch_norm` makes of the same network, up to 3e-7.
    """
    model = small_model(padding="same", norm_epsilon=1e-3)
    model, variables = fold_batch_norm(model, random_variables(model))
    constants, operations = [], []
    for ours, theirs in RULES["keras", "mobilenet_v2"].folded().modules(model):
        layer = variables["params"]
        for part in ours.split("/"):
            layer = layer[part]
        kernel = np.asarray(layer["kernel"])
        depthwise = ours.endswith("depthwise/conv")
        kind = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
        axes = (2, 0, 1, 3) if depthwise else (3, 0, 1, 2)
        if kernel.ndim == 2:
            kind, axes = "FULLY_CONNECTED", (1, 0)
        constants += [(f"{theirs}/conv", kernel.transpose(axes)), (f"{theirs}/add", layer["bias"])]
        operations.append((kind, [name for name, _ in constants[-2:]]))
    path.write_bytes(encode_tflite(constants[::-1], operations=operations))
    found = convert_file(path, "v2", source="keras").filled
    assert (found.model.folded, found.model.alpha) == (True, model.alpha)
    jax.tree.map(np.testing.assert_array_equal, found.variables, variables)
    with pytest.raises(InputError, match="name the file's origin with --source"):
        convert_file(path, "v2")


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(("factor", "expected"), [(1 / 6, BIAS - 3), (1 / 2, BIAS)])
def test_the_3_of_a_hard_sigmoid_is_taken_out_of_a_bias(path, dtype, factor, expected):
    arrays = {"conv": KERNEL[..., :2].transpose(3, 0, 1, 2), "add": BIAS, "sixth": [factor]}
    constants = [(name, np.asarray(array, dtype)) for name, array in arrays.items()]
    operations = [("CONV_2D", ["conv", "add"]), ("MUL", ["sixth"])]
    path.write_bytes(encode_tflite(constants, operations=operations))
    found = read_source(path)
    np.testing.assert_array_equal(found.tensors["0.bias"], expected)
    np.testing.assert_array_equal(found.tensors["0.weight"], KERNEL[..., :2].transpose(3, 2, 0, 1))


def test_arithmetic_before_the_first_layer_is_said(path):
    constants = [("scale", np.asarray(0.5, np.float32)), ("conv", KERNEL.transpose(3, 0, 1, 2))]
    layer, arithmetic = ("CONV_2D", ["conv"]), ("MUL", ["scale"])
    path.write_bytes(encode_tflite(constants, operations=[arithmetic, layer]))
    assert read_source(path).said.unread == ("MUL",)
    path.write_bytes(encode_tflite(constants, operations=[layer, arithmetic]))
    assert read_source(path).said.unread == ()


def test_a_file_is_recognised_by_its_bytes(path):
    other = path.with_name("weights.pth")
    other.write_bytes(encode_tflite([("a/Kernel", KERNEL)]))
    assert list(read_source(other).tensors) == ["a/Kernel"]


@pytest.mark.parametrize("dtype", ["int8", "float64"])
def test_weights_of_another_type_keep_it(path, dtype):
    path.write_bytes(encode_tflite([("a/Kernel", KERNEL.astype(dtype))]))
    assert read_tflite(path).tensors["a/Kernel"].dtype == dtype


def test_two_constants_of_one_name_are_refused(path):
    path.write_bytes(encode_tflite([("a/Kernel", KERNEL), ("a/Kernel", KERNEL)]))
    assert "holds two tensors named 'a/Kernel'" in refusal(path)


HOLES = np.where(np.random.default_rng(0).random((4, 6, 2, 8)) < 0.2, 1.5, 0).astype(np.float32)
HOLES[1] = 0


@pytest.mark.parametrize("vector", ["Uint8Vector", "Uint16Vector", "Int32Vector"])
@pytest.mark.parametrize("block", [(1, 1, 1, 1), (1, 1, 1, 4), (2, 1, 1, 4), (4, 3, 2, 2)])
def test_sparse_constants_are_read_with_their_zeros(path, vector, block):
    numbers = HOLES + np.arange(HOLES.size).reshape(HOLES.shape) * (HOLES != 0)
    sparse = {"a/Kernel": Sparse(block, vector)}
    path.write_bytes(encode_tflite([("a/Kernel", numbers), ("b", BIAS)], sparse=sparse))
    np.testing.assert_array_equal(read_tflite(path).tensors["a/Kernel"], numbers)


@pytest.mark.parametrize(
    ("shape", "kept"),
    [
        ((4, 6, 2, 4), slice(None)),  # places beyond the last axis
        ((3, 6, 2, 8), slice(None)),
        ((4, 6, 2, 8), slice(1, None)),  # a value too few
        ((10**6, 10**6, 8), slice(None)),  # terabytes of zeros
    ],
)
def test_a_sparse_constant_that_does_not_fit_is_refused(path, shape, kept):
    def encode(builder, array):
        sparsity, values = Sparse((1,) * 4)(builder, HOLES)
        return sparsity, values[kept]

    array = np.broadcast_to(np.float32(0), shape)
    path.write_bytes(encode_tflite([("a/Kernel", array)], sparse={"a/Kernel": encode}))
    assert "is damaged or not a TFLite file" in refusal(path)


def test_a_graph_without_constants_is_refused(path):
    path.write_bytes(encode_tflite([PADDINGS]))
    assert "holds no weights" in refusal(path)


def test_a_truncated_file_is_refused_wherever_it_ends(path):
    """In a flatbuffer what was written first stands last: here the input, behind the constants."""
    whole = encode_tflite([(f"conv2d_{i}/Kernel", KERNEL + i) for i in range(20)])
    rng = random.Random(0)
    for end in [1, 4, 8, 9, *(rng.randrange(len(whole) - 200) for _ in range(60))]:
        path.write_bytes(whole[:end])
        assert "is damaged or not a TFLite file" in refusal(path)


@pytest.mark.parametrize("sparse", [{}, {"conv2d_3/Kernel": Sparse((1,) * 4)}])
def test_damaged_bytes_give_tensors_or_one_line(path, sparse):
    constants = [(f"conv2d_{i}/Kernel", KERNEL + i) for i in range(5)]
    whole = encode_tflite(constants, sparse=sparse)
    rng = random.Random(0)
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(4):
            damaged[rng.randrange(8, len(whole))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            read_tflite(path)
        except InputError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 50


@pytest.mark.parametrize(
    "content",
    [b"hello, this is text\n" * 9, b"\x1c\0\0\0TFL3", b"\x1c\0\0\0TFL9" + b"\0" * 90],
)
def test_a_file_that_is_no_model_is_refused(path, content):
    path.write_bytes(content)
    assert "is damaged or not a TFLite file" in refusal(path)


def test_without_the_library_the_error_names_the_extra(path, monkeypatch):
    path.write_bytes(encode_tflite([("a/Kernel", KERNEL)]))
    monkeypatch.setitem(sys.modules, "tflite", None)
    with pytest.raises(InputError, match=r"pip install -e '.*\[tflite\]'"):
        read_source(path)
