"""TensorFlow.js's layers models and NumPy's archives: the tensors of Keras's other files."""

import json

import jax
import keras
import numpy as np
import pytest
from keras import layers

from convert.conversion import convert_file
from convert.rules import RULES
from convert.sources import read_source
from flaxmobile import InputError
from tests.convert.keras_models import (
    draw,
    drawing_nothing,
    edited,
    forget_names,
    random_model,
    save,
)
from tests.convert.rules import fill


@pytest.fixture(scope="module")
def network():
    """Models in a model, as Teachable Machine builds them."""
    top = random_model("mobilenet_v1", 32, alpha=0.1, num_classes=0)
    head = [
        layers.Dense(9, activation="relu", name="dense_Dense1"),
        layers.Dense(3, activation="softmax", use_bias=False, name="dense_Dense2"),
    ]
    with drawing_nothing():
        model = keras.Sequential([keras.Sequential([top]), keras.Sequential(head)])
        model.build((None, 32, 32, 3))
    rng = np.random.default_rng(1)
    for layer in head:
        layer.set_weights([draw(rng, weight.name, weight.shape) for weight in layer.weights])
    return model


def weights_of(model):
    """Tensors by the names of Keras 2."""
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from weights_of(layer)
            continue
        for weight in layer.weights:
            depthwise = isinstance(layer, layers.DepthwiseConv2D) and weight.name == "kernel"
            yield f"{layer.name}/{'depthwise_' * depthwise}{weight.name}", np.asarray(weight)


def write(model, folder, kind="float32", shards=2):
    """Write model.json and its files, as tensorflowjs_converter does."""
    tensors = dict(weights_of(model))
    content = b"".join(array.astype(kind).tobytes() for array in tensors.values())
    quantized = {} if kind == "float32" else {"quantization": {"dtype": kind, "scale": 1}}
    entries = [
        {"name": name, "shape": array.shape, "dtype": "float32", **quantized}
        for name, array in tensors.items()
    ]
    paths = [f"group1-shard{i}of{shards}.bin" for i in range(1, shards + 1)]
    parts = np.array_split(np.frombuffer(content, np.uint8), shards)
    for path, part in zip(paths, parts, strict=True):
        (folder / path).write_bytes(part.tobytes())
    description = {
        "format": "layers-model",
        "modelTopology": {"model_config": json.loads(model.to_json())},
        "weightsManifest": [{"paths": paths, "weights": entries}],
    }
    path = folder / "model.json"
    path.write_text(json.dumps(description))
    return path


def edit(path, change):
    description = json.loads(path.read_text())
    change(description)
    path.write_text(json.dumps(description))
    return path


def test_a_layers_model_is_the_keras_model(tmp_path, network):
    found = convert_file(write(network, tmp_path), "v1")
    other = convert_file(save(network, tmp_path, "keras"), "v1")
    assert found.filled.model == other.filled.model
    assert found.filled.model.dense_layers == ((9, "relu"),)
    assert (found.facts, found.notes) == (other.facts, other.notes)
    jax.tree.map(np.testing.assert_array_equal, found.filled.variables, other.filled.variables)


def test_layers_without_names_are_not_those_of_a_deeper_network(tmp_path, network):
    path = save(network, tmp_path, "keras")
    with edited(path) as file:
        forget_names(file)
    found = convert_file(path, "v1")
    assert found.filled.model.dense_layers == ((9, "relu"),)


def test_halves_are_widened(tmp_path, network):
    source = read_source(write(network, tmp_path, "float16"))
    assert source.precision == "float16"
    kernel = dict(weights_of(network))["conv1/kernel"]
    assert np.array_equal(source.tensors["conv1/kernel"], kernel.astype(np.float16))


def test_quantised_numbers_are_refused(tmp_path, network):
    with pytest.raises(InputError, match="weights that are quantised to uint8, which changed"):
        read_source(write(network, tmp_path, "uint8"))


def elsewhere(model):
    model["weightsManifest"][0]["paths"][0] = "../secret.bin"


def missing(model):
    model["weightsManifest"][0]["paths"][0] = "other.bin"


def graph(model):
    model["format"] = "graph-model"


def larger(model):
    model["weightsManifest"][0]["weights"][-1]["shape"] = [10, 3]


def smaller(model):
    model["weightsManifest"][0]["weights"][-1]["shape"] = [8, 3]


def negative(model):
    model["weightsManifest"][0]["weights"][0]["shape"] = [-1]


def huge(model):
    model["weightsManifest"][0]["weights"][0]["shape"] = [2**70]


def before(model):
    top = model["modelTopology"]["model_config"]["config"]["layers"]
    config = {"name": "to_rgb", "kernel_size": [1, 1], "strides": [1, 1], "use_bias": True}
    top.insert(1, {"class_name": "Conv2D", "config": config})


def other(model):
    model.clear()


DAMAGE = {
    elsewhere: "names a file elsewhere, which is not read: '../secret.bin'",
    missing: "needs other.bin beside it",
    graph: "is a graph model of TensorFlow.js",
    larger: "is damaged or not a model of TensorFlow.js",
    smaller: "bytes of numbers, its tensors",
    negative: "is damaged|bytes of numbers",
    huge: "is damaged or not a model of TensorFlow.js",
    before: r"has to_rgb \(Conv2D\) as its first layer with weights",
    other: "is damaged or not a model of TensorFlow.js",
}


@pytest.mark.parametrize("change", DAMAGE, ids=lambda change: change.__name__)
def test_a_damaged_model_is_refused(tmp_path, network, change):
    path = edit(write(network, tmp_path), change)
    with pytest.raises(InputError, match=DAMAGE[change]) as caught:
        read_source(path)
    assert str(path) in str(caught.value)


def test_text_that_is_no_json_is_refused(tmp_path):
    (tmp_path / "w.json").write_text("{not JSON")
    with pytest.raises(InputError, match=r"is damaged or not a model of TensorFlow\.js"):
        read_source(tmp_path / "w.json")


def test_an_archive_of_numpy_has_keras_names(tmp_path):
    model = random_model("mobilenet_v1", 32, alpha=0.1)
    np.savez(tmp_path / "w.npz", **{f"{k}:0": array for k, array in weights_of(model)})
    rule = RULES["keras", "mobilenet_v1"]
    tensors = read_source(tmp_path / "w.npz").tensors
    found = fill(rule, "mobilenet_v1", tensors)
    assert (found.model.alpha, found.model.num_classes) == (0.1, 7)
    kernel = found.variables["params"]["stem"]["conv"]["kernel"]
    assert np.array_equal(kernel, model.get_layer("conv1").kernel)


def test_other_archives_of_numpy(tmp_path):
    np.savez(tmp_path / "w.npz", **{"features.0.0.weight": np.zeros(3, np.float32)})
    assert list(read_source(tmp_path / "w.npz").tensors) == ["features.0.0.weight"]
    np.savez(tmp_path / "w.npz", np.zeros(3))
    with pytest.raises(InputError, match="holds no arrays with names"):
        read_source(tmp_path / "w.npz")
    np.savez(tmp_path / "w.npz", a=np.asarray([{}]))
    with pytest.raises(InputError, match="is damaged, or not an archive of arrays"):
        read_source(tmp_path / "w.npz")
    (tmp_path / "w.npz").write_bytes((tmp_path / "w.npz").read_bytes()[:50])
    with pytest.raises(InputError, match="is damaged, or not an archive of arrays"):
        read_source(tmp_path / "w.npz")
