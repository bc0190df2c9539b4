"""TensorFlow's checkpoints, in both formats, and frozen graphs."""

import random

import numpy as np
import pytest

from convert.sources import read_source
from flaxmobile import InputError
from tests.convert.commands import refusal
from tests.convert.tf_writer import write_checkpoint, write_first_format, write_graph

TENSORS = {
    "MobilenetV2/Conv/weights": np.arange(24, dtype=np.float32).reshape(2, 3, 1, 4),
    "MobilenetV2/Conv/BatchNorm/gamma": np.asarray([0.5, -1.0], np.float32),
    "MobilenetV2/expanded_conv/depthwise/depthwise_weights": np.ones((3, 3, 2, 1), np.float32),
    "MobilenetV2/Logits/Conv2d_1c_1x1/biases": np.full(5, 0.5, np.float32),
    "global_step": np.asarray(7),
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.ckpt.index"


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (write_checkpoint, "model.ckpt.index"),
        (write_first_format, "inception_v3.ckpt"),
        (write_graph, "frozen.pb"),
    ],
)
def test_tensors_are_read_by_name(tmp_path, write, name):
    found = read_source(write(tmp_path / name, TENSORS)).tensors
    assert set(found) == {name.replace("depthwise_weights", "weights") for name in TENSORS}
    for name, array in TENSORS.items():
        np.testing.assert_array_equal(found[name.replace("depthwise_weights", "weights")], array)


def test_the_layers_of_a_separable_convolution_get_a_scope_each(path):
    tensors = {"a/pointwise_weights": 1, "a/depthwise_weights": 2, "a/biases": 3, "b/biases": 4}
    arrays = {name: np.full(1, number, np.float32) for name, number in tensors.items()}
    found = read_source(write_checkpoint(path, arrays)).tensors
    assert {name: int(array[0]) for name, array in found.items()} == {
        "a/pointwise/weights": 1,
        "a/depthwise/weights": 2,
        "a/pointwise/biases": 3,
        "b/biases": 4,
    }


def test_halves_are_read(path):
    found = read_source(write_checkpoint(path, {"a": np.full((2, 1), 1.5, np.float16)}))
    np.testing.assert_array_equal(found.tensors["a"], [[1.5], [1.5]])


def test_a_graph_is_recognised_by_its_bytes_and_damage_is_refused(tmp_path):
    path = write_graph(tmp_path / "w.pth", TENSORS)
    whole = path.read_bytes()
    assert len(read_source(path).tensors) == len(TENSORS)
    path.write_bytes(whole[:-5])
    assert "is damaged, or no graph of TensorFlow" in refusal(path)
    assert "is a graph without variables" in refusal(write_graph(path, {}))


def test_what_cannot_be_read_is_said(path):
    write_checkpoint(path, {"a": np.zeros(3, np.complex64)})
    assert "holds 'a' of TensorFlow's type 8; accepted: a checkpoint of" in refusal(path)
    assert "is compressed" in refusal(write_checkpoint(path, TENSORS, compression=1))
    assert "holds no tensors" in refusal(write_checkpoint(path, {}))
    write_checkpoint(path, TENSORS)
    numbers = path.with_name("model.ckpt.data-00000-of-00001")
    numbers.write_bytes(numbers.read_bytes()[:50])
    assert f"needs all of {numbers.name}, which ends within" in refusal(path)
    numbers.unlink()
    assert f"needs {numbers.name} beside it: No such file" in refusal(path)


def test_what_cannot_be_read_of_the_first_format_is_said(path):
    write_first_format(path, {"a": np.zeros(3, np.complex64)})
    assert "holds 'a' of TensorFlow's type 8" in refusal(path)
    assert "holds 'a' in slices" in refusal(write_first_format(path, {"a": np.ones(4)}, slices=2))
    assert "holds no tensors" in refusal(write_first_format(path, {}))


@pytest.mark.parametrize("write", [write_checkpoint, write_first_format])
def test_a_damaged_table_is_refused_or_read(path, write):
    whole = write(path, TENSORS).read_bytes()
    rng, refused = random.Random(0), 0
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(3):
            damaged[rng.randrange(len(whole) - 8)] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            read_source(path)
        except InputError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 100
    path.write_bytes(whole[:-1])
    assert "is no index" in refusal(path)
