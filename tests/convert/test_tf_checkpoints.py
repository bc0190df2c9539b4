"""TensorFlow's checkpoints and frozen graphs, under TF-slim's names."""

import random

import jax
import numpy as np
import pytest

from convert import engine
from convert.conversion import convert_file
from convert.rules import RULES
from convert.sources import read_source
from flaxmobile import InputError
from flaxmobile.registry import create_model
from tests.convert.commands import refusal
from tests.convert.rules import each_rule, options_for
from tests.convert.tf_writer import write_checkpoint, write_graph
from tests.networks import random_variables

AVERAGE = "/ExponentialMovingAverage"
TENSORS = {
    "MobilenetV2/Conv/weights": np.arange(24, dtype=np.float32).reshape(2, 3, 1, 4),
    "MobilenetV2/Conv/BatchNorm/gamma": np.asarray([0.5, -1.0], np.float32),
    "MobilenetV2/expanded_conv/depthwise/depthwise_weights": np.ones((3, 3, 2, 1), np.float16),
    "MobilenetV2/Logits/Conv2d_1c_1x1/biases": np.full(5, 0.5, np.float32),
    "global_step": np.asarray(7),
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.ckpt.index"


@each_rule(lambda origin, rule: origin == "slim")
def test_slims_networks_are_read_with_the_averages_of_training(path, origin, name):
    rule = RULES[origin, name]
    model = create_model(name, **options_for(origin, name, rule.variants[0]))
    variables = random_variables(model)
    depthwise = {theirs for ours, theirs in rule.modules(model) if "depthwise/conv" in ours}
    tensors = {"global_step": np.asarray(7)}
    for theirs, array in engine.from_flax(rule, model, variables).items():
        layer, _, leaf = theirs.rpartition("/")
        real = f"{layer}/depthwise_weights" if layer in depthwise else theirs
        tensors[real] = array
        if not leaf.startswith("moving_"):
            tensors |= {real: 0 * array, f"{real}/RMSProp": array, f"{real}{AVERAGE}": array}
    found = convert_file(write_checkpoint(path, tensors), name)
    assert (found.origin, found.filled.model) == ("slim", model)
    jax.tree.map(np.testing.assert_array_equal, found.filled.variables, variables)
    assert any("took the averages of training" in line for line in found.describe())
    assert "global_step" in found.filled.left_out
    assert found.facts.preprocessing.mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("write", "name"), [(write_checkpoint, "model.ckpt.index"), (write_graph, "frozen.pb")]
)
def test_tensors_are_read_by_name(tmp_path, write, name):
    found = read_source(write(tmp_path / name, TENSORS)).tensors
    assert set(found) == {name.replace("depthwise_weights", "weights") for name in TENSORS}
    for name, array in TENSORS.items():
        np.testing.assert_array_equal(found[name.replace("depthwise_weights", "weights")], array)


def test_a_graph_is_recognised_by_its_bytes_and_damage_is_refused(tmp_path):
    path = write_graph(tmp_path / "w.pth", TENSORS)
    whole = path.read_bytes()
    assert len(read_source(path).tensors) == len(TENSORS)
    path.write_bytes(whole[:-5])
    assert "is damaged, or no graph of TensorFlow" in refusal(path)
    assert "is a graph without variables" in refusal(write_graph(path, {}))


def test_what_cannot_be_read_is_said(path):
    write_checkpoint(path, {"a": np.zeros(3, np.complex64)})
    assert "holds 'a' of TensorFlow's type 8; accepted: the .index" in refusal(path)
    assert "is compressed" in refusal(write_checkpoint(path, TENSORS, compression=1))
    assert "holds no tensors" in refusal(write_checkpoint(path, {}))
    write_checkpoint(path, TENSORS)
    numbers = path.with_name("model.ckpt.data-00000-of-00001")
    numbers.write_bytes(numbers.read_bytes()[:50])
    assert f"needs all of {numbers.name}, which ends within" in refusal(path)
    numbers.unlink()
    assert f"needs {numbers.name} beside it: No such file" in refusal(path)


def test_a_damaged_index_is_refused_or_read(path):
    whole = write_checkpoint(path, TENSORS).read_bytes()
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
