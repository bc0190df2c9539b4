"""What a whole Keras model says itself: how images are prepared, and what its answer is."""

import json

import h5py
import jax
import keras
import numpy as np
import pytest
from keras import layers

from convert.facts import facts_about
from convert.rules import RULES
from convert.sources import read_source
from flaxmobile import InputError, create_model
from flaxmobile.preprocessing import Preprocessing
from tests.convert.keras_models import save

PIXELS = np.random.default_rng(0).uniform(0, 255, (1, 32, 32, 3)).astype(np.float32)


@pytest.fixture(autouse=True)
def promotion():
    """Keras adds numbers per channel without a thought."""
    with jax.numpy_rank_promotion("allow"):
        yield


def build(before=(), after=(), size=32, **compiled):
    """Layers around the first convolution of a network."""
    images = keras.Input((size, size, 3))
    x = images
    for layer in before:
        x = layer(x)
    x = layers.Conv2D(4, 3, 2, use_bias=False, name="Conv1")(x)
    x = layers.GlobalAveragePooling2D()(layers.ReLU(6)(layers.BatchNormalization()(x)))
    for layer in after:
        x = layer(x)
    model = keras.Model(images, x)
    if compiled:
        model.compile(**compiled)
    return model


def read(model, path, form="keras"):
    return read_source(save(model, path, form))


def adapted(**options):
    layer = layers.Normalization(**options)
    layer.adapt(PIXELS)
    return layer


BEFORE = {
    "rescaling": lambda: [layers.Rescaling(1 / 255)],
    "shifted": lambda: [layers.Rescaling(1 / 127.5, offset=-1)],
    "per channel": lambda: [layers.Rescaling([1 / 50, 1 / 60, 1 / 70], [-1, -2, -3])],
    "two": lambda: [layers.Rescaling(1 / 255), layers.Rescaling(2, -1)],
    "given": lambda: [
        layers.Rescaling(1 / 255),
        layers.Normalization(mean=[0.485, 0.456, 0.406], variance=[0.05, 0.04, 0.06]),
    ],
    "adapted": lambda: [adapted()],
    "adapted to all channels": lambda: [adapted(axis=None)],
    "preprocess_input": lambda: [keras.applications.mobilenet_v2.preprocess_input],
    "operations": lambda: [lambda x: (x * 0.5 + 3.0) / 7.0 - np.float32([1, 2, 3])],
    "nested": lambda: [
        keras.Sequential([layers.RandomFlip(), layers.RandomZoom(0.1)], name="augment"),
        keras.Sequential([keras.Input((32, 32, 3)), layers.Rescaling(1 / 100)]),
    ],
}


@pytest.mark.parametrize("form", ["h5", "keras"])
@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
def test_the_layers_before_the_network_are_the_preprocessing(tmp_path, before, form):
    before = before()
    source = read(build(before), tmp_path, form)
    augments = getattr(before[0], "name", "") == "augment"
    expected = PIXELS.copy()  # which `preprocess_input` writes into
    for layer in before[augments:]:
        expected = layer(expected)
    found = Preprocessing(**source.said.preprocessing)
    np.testing.assert_allclose(found.normalize(PIXELS), np.asarray(expected), rtol=1e-5, atol=1e-5)
    assert (found.image_size, found.resize_size) == (32, 32)
    assert not [name for name in source.tensors if name.startswith("normalization")]
    notes = ["left out, as augmentation for training: RandomFlip, RandomZoom"] * augments
    assert list(source.notes[1:]) == notes


SIZES = {
    "resizing": (
        lambda: [layers.Resizing(24, 24, "nearest")],
        {"image_size": 24, "resize_size": 24, "interpolation": "nearest"},
    ),
    "crop": (lambda: [layers.CenterCrop(28, 28)], {"image_size": 28, "resize_size": 32}),
    "random crop": (lambda: [layers.RandomCrop(28, 28)], {"image_size": 28, "resize_size": 28}),
    "dropout": (lambda: [layers.SpatialDropout2D(0.1)], {"image_size": 32, "resize_size": 32}),
}


@pytest.mark.parametrize(("before", "expected"), SIZES.values(), ids=SIZES)
def test_sizes_are_read(tmp_path, before, expected):
    assert read(build(before()), tmp_path).said.preprocessing == expected


def test_a_model_for_any_size_says_none(tmp_path):
    assert read(build(size=None), tmp_path).said.preprocessing == {}


UNREAD = {
    "lambda": lambda: [layers.Lambda(lambda x: x)],
    "activation": lambda: [layers.Activation("tanh")],
    "pooling": lambda: [layers.MaxPooling2D()],
    "padding": lambda: [layers.ZeroPadding2D()],
    "interpolation": lambda: [layers.Resizing(24, 24, "area")],
    "negative": lambda: [layers.Rescaling(-1)],
    "from a number": lambda: [lambda x: 255.0 - x],
    "adapted to rows": lambda: [adapted(axis=1)],
}


@pytest.mark.parametrize("before", UNREAD.values(), ids=UNREAD)
def test_a_layer_that_cannot_be_expressed_is_refused_by_name(tmp_path, before):
    said = read(build([layers.Rescaling(1 / 255, name="to_1"), *before()]), tmp_path).said
    rule, model = RULES["keras", "mobilenet_v2"], create_model("v2", num_classes=4)
    assert not {"mean", "std"} & set(said.preprocessing)
    with pytest.raises(InputError, match=r"images go through .*say with --mean and --std"):
        facts_about(rule, model, None, said)


def test_a_convolution_before_the_network_is_refused_by_name(tmp_path):
    path = save(build([layers.Conv2D(3, 1, name="to_rgb")]), tmp_path, "keras")
    with pytest.raises(InputError, match=r"has to_rgb \(Conv2D\) as its first layer with weights"):
        read_source(path)


CATEGORICAL, BINARY = keras.losses.CategoricalCrossentropy, keras.losses.BinaryCrossentropy
ANSWERS = {
    "softmax": (lambda: [layers.Dense(3, activation="softmax")], {}, "softmax"),
    "one class": (lambda: [layers.Dense(1, activation="sigmoid")], {}, "sigmoid"),
    "labels": (lambda: [layers.Dense(3, activation="sigmoid")], {}, "sigmoid"),
    "alone": (lambda: [layers.Dense(3), layers.Activation("sigmoid")], {}, "sigmoid"),
    "a layer": (lambda: [layers.Dense(3), layers.Softmax()], {}, "softmax"),
    "linear": (lambda: [layers.Dense(3)], {}, None),
    "logits": (lambda: [layers.Dense(3)], {"loss": CATEGORICAL(from_logits=True)}, "softmax"),
    "binary logits": (lambda: [layers.Dense(3)], {"loss": BINARY(from_logits=True)}, "sigmoid"),
    "numbers": (lambda: [layers.Dense(1)], {"loss": "mse"}, "none"),
    "another": (lambda: [layers.Dense(3, activation="tanh")], {}, "tanh"),
    "no head": (lambda: [], {"loss": "mse"}, None),
}


@pytest.mark.parametrize("form", ["h5", "keras"])
@pytest.mark.parametrize(("after", "compiled", "output"), ANSWERS.values(), ids=ANSWERS)
def test_the_activation_of_the_answer_is_read(tmp_path, after, compiled, output, form):
    assert read(build(after=after(), **compiled), tmp_path, form).said.output == output


def test_an_answer_that_cannot_be_given_is_refused_but_a_backbone_has_none(tmp_path):
    said = read(build(after=[layers.Dense(3, activation="tanh")]), tmp_path).said
    rule = RULES["keras", "mobilenet_v2"]
    with pytest.raises(InputError, match="answer is made by tanh; accepted: softmax"):
        facts_about(rule, create_model("v2", num_classes=3), None, said)
    assert facts_about(rule, create_model("v2", num_classes=0), None, said).output == "softmax"


def test_the_configuration_of_keras_2_is_read(tmp_path):
    """Its lists of inputs, its operations of TensorFlow, and its names of sizes are others."""

    def layer(kind, name, config, *inputs):
        return {"class_name": kind, "name": name, "config": config, "inbound_nodes": list(inputs)}

    stem = {"kernel_size": [3, 3], "strides": [2, 2], "use_bias": False}
    shape = {"batch_input_shape": [None, 64, 64, 3]}
    inner = {
        "layers": [
            layer("InputLayer", "input_2", shape),
            layer("ZeroPadding2D", "Conv1_pad", {}, [["input_2", 0, 0, {}]]),
            layer("Conv2D", "Conv1", stem, [["Conv1_pad", 0, 0, {}]]),
        ],
        "input_layers": [["input_2", 0, 0]],
        "output_layers": [["Conv1", 0, 0]],
    }
    divide = {"function": "math.truediv"}, [["input_1", 0, 0, {"y": 127.5, "name": None}]]
    subtract = {"function": "math.subtract"}, [["divide", 0, 0, {"y": 1.0, "name": None}]]
    outer = {
        "layers": [
            layer("InputLayer", "input_1", shape),
            layer("TFOpLambda", "divide", divide[0], divide[1][0]),
            layer("TFOpLambda", "subtract", subtract[0], subtract[1][0]),
            layer("Functional", "mobilenet", inner, [["subtract", 0, 0, {"training": False}]]),
            layer("GlobalAveragePooling2D", "pool", {}, [["mobilenet", 1, 0, {}]]),
            layer("Dense", "dense", {"activation": "softmax"}, [["pool", 0, 0, {}]]),
        ],
        "input_layers": [["input_1", 0, 0]],
        "output_layers": [["dense", 0, 0]],
    }
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Functional", "config": outer})
        file.attrs["layer_names"] = np.asarray(["mobilenet"], "S")
        file.create_group("mobilenet").attrs["weight_names"] = np.asarray(["Conv1/kernel:0"], "S")
        file["mobilenet/Conv1/kernel:0"] = np.zeros(3, np.float32)
    source = read_source(tmp_path / "w.h5")
    half = (0.5, 0.5, 0.5)
    sizes = {"image_size": 64, "resize_size": 64}
    assert source.said.preprocessing == {**sizes, "mean": half, "std": half}
    assert source.said.output == "softmax"


def test_a_configuration_that_cannot_be_read_says_nothing(tmp_path):
    with h5py.File(save(build(), tmp_path, "h5"), "r+") as file:
        file.attrs["model_config"] = json.dumps({"config": {"layers": [{"config": {}}, 1]}})
    source = read_source(tmp_path / "saved.h5")
    assert source.said.preprocessing == {}
    assert source.notes == ("its configuration is not one that can be read here",)
