"""The user's own dense layers on a network, as tutorials build them, in place of its classifier."""

import jax
import keras
import numpy as np
import pytest
import torch
from keras import layers
from torchvision.models import mobilenet_v3_small

from convert.conversion import convert_file
from flaxmobile import (
    InputError,
    create_model,
    fold_batch_norm,
    load_weights,
    save_weights,
    summarize,
)
from flaxmobile.outputs import OUTPUTS
from tests.convert.commands import convert, error_of, save
from tests.convert.keras_models import draw, drawing_nothing, edited, forget_names, random_model
from tests.convert.keras_models import logits as answers
from tests.convert.keras_models import save as save_keras
from tests.convert.states import random_state
from tests.models.parity import assert_close
from tests.networks import abstract

PIXELS = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def base():
    """A network without its top, whose last map is not pooled."""
    pooled = random_model("mobilenet_v2", 32, alpha=0.35, num_classes=0)
    return keras.Model(pooled.input, pooled.layers[-2].output, name="body")


def on_top_of(base, before, after):
    """A model with the body as one layer, as TensorFlow's tutorials build it."""
    images = keras.Input((32, 32, 3))
    x = images
    with drawing_nothing():
        for layer in before:
            x = layer(x)
        x = base(x, training=False)
        for layer in after:
            x = layer(x)
        model = keras.Model(images, x)
    rng = np.random.default_rng(1)
    for layer in after:
        layer.set_weights([draw(rng, weight.name, weight.shape) for weight in layer.weights])
    return model


def pooled(*after):
    return [layers.GlobalAveragePooling2D(), layers.Dropout(0.2), *after]


HEADS = {
    "softmax": (lambda: pooled(layers.Dense(3, activation="softmax", name="head")), (), "softmax"),
    "one class": (lambda: pooled(layers.Dense(1, activation="sigmoid")), (), "sigmoid"),
    "labels": (lambda: pooled(layers.Dense(3), layers.Activation("sigmoid")), (), "sigmoid"),
    "teachable machine": (
        lambda: pooled(
            layers.Dense(9, activation="relu"),
            layers.Dense(3, activation="softmax", use_bias=False),
        ),
        ((9, "relu"),),
        "softmax",
    ),
    "three": (
        lambda: pooled(
            layers.Dense(9), layers.ReLU(), layers.Dense(8, activation="tanh"), layers.Dense(2)
        ),
        ((9, "relu"), (8, "tanh")),
        "none",
    ),
}


@pytest.mark.parametrize(("after", "dense", "output"), HEADS.values(), ids=HEADS)
def test_the_answer_is_that_of_the_whole_model(tmp_path, base, after, dense, output):
    network = on_top_of(base, [layers.Rescaling(1 / 255)], after())
    network.compile(loss="mse")
    found, other = (
        convert_file(save_keras(network, tmp_path, form), "v2") for form in ("keras", "h5")
    )
    model, variables = found.filled.model, found.filled.variables
    assert other.facts == found.facts
    assert other.filled.model == model
    jax.tree.map(np.testing.assert_array_equal, other.filled.variables, variables)
    assert (model.dense_layers, found.facts.output) == (dense, output)
    assert "the file's own head: " in "\n".join(found.describe())
    images = found.facts.preprocessing.normalize(PIXELS)
    folded, numbers = fold_batch_norm(model, variables)
    found = jax.jit(folded.apply)(numbers, images)
    assert_close(OUTPUTS[output](found), answers(network, PIXELS), 1e-4, output)


def test_a_head_is_saved_with_the_network(tmp_path):
    options = {"alpha": 0.25, "num_classes": 3, "dense_layers": [[9, "relu"], [8, "tanh"]]}
    model = create_model("v1", **options)
    variables = jax.tree.map(lambda leaf: np.full(leaf.shape, 2, leaf.dtype), abstract(model))
    save_weights(tmp_path / "w", "v1", options, variables)
    loaded, numbers = load_weights(tmp_path / "w")
    assert loaded == model
    jax.tree.map(np.testing.assert_array_equal, numbers, variables)
    rows = {row.path: row for row in summarize(model, 32).rows}
    assert (rows["dense1"].macs, rows["dense2"].macs) == (256 * 9, 9 * 8)
    assert (
        "dense1"
        not in create_model("v2", **options | {"num_classes": 0}).init(jax.random.key(0), PIXELS)[
            "params"
        ]
    )


OTHERS = {
    "maximum": lambda: [layers.GlobalMaxPooling2D(name="top"), layers.Dense(3, name="three")],
    "normalized": lambda: pooled(
        layers.BatchNormalization(name="top"), layers.Dense(3, name="three")
    ),
    "activated": lambda: pooled(
        layers.Activation("relu", name="top"), layers.Dense(3, name="three")
    ),
}


@pytest.mark.parametrize("after", OTHERS.values(), ids=OTHERS)
def test_another_head_is_refused_and_left_out_of_a_backbone(tmp_path, base, after):
    path = save_keras(on_top_of(base, [], after()), tmp_path, "keras")
    with pytest.raises(InputError, match=r"--no-classifier would load .*, which has top \("):
        convert_file(path, "v2")
    found = convert_file(path, "v2", chosen={"num_classes": 0})
    assert "three/kernel" in found.filled.left_out
    assert found.filled.model.dense_layers == ()


def test_a_file_of_weights_alone_shows_a_single_dense_layer(tmp_path, base):
    network = on_top_of(base, [], pooled(layers.Dense(3, name="flowers")))
    path = save_keras(network, tmp_path, "weights.h5")
    found = convert_file(path, "v2")
    note = "the file's own head: flowers, taken to follow average pooling"
    assert note in found.describe()
    kernel = found.filled.variables["params"]["classifier"]["kernel"]
    assert np.array_equal(kernel, network.layers[-1].kernel)


def test_two_dense_layers_in_a_file_of_weights_alone_are_refused(tmp_path, base):
    network = on_top_of(base, [], pooled(layers.Dense(9), layers.Dense(3)))
    path = save_keras(network, tmp_path, "weights.h5")
    with pytest.raises(InputError, match="--no-classifier would load"):
        convert_file(path, "v2")


def test_a_file_of_keras_before_its_layers_had_names_has_a_head_too(tmp_path, base):
    network = on_top_of(base, [], HEADS["teachable machine"][0]())
    path = save_keras(network, tmp_path, "keras")
    with edited(path) as file:
        forget_names(file)
    found = convert_file(path, "v2")
    assert found.filled.model.dense_layers == ((9, "relu"),)
    kernels = (
        found.filled.variables["params"][each]["kernel"] for each in ("dense1", "classifier")
    )
    for kernel, layer in zip(kernels, network.layers[-2:], strict=True):
        assert np.array_equal(kernel, layer.kernel)
    left = convert_file(path, "v2", chosen={"num_classes": 0}).filled.left_out
    assert {name.rpartition("/")[0] for name in left} == {"layers.dense", "layers.dense_1"}


LINEAR = {"weight": torch.ones(3, 1280), "bias": torch.arange(3.0)}
TORCH = {
    "alone": {f"classifier.{name}": tensor for name, tensor in LINEAR.items()},
    "fc": {f"fc.{name}": tensor for name, tensor in LINEAR.items()},
    "without a bias": {"head.linear.weight": LINEAR["weight"]},
}


@pytest.mark.parametrize("prefix", ["", "backbone."])
@pytest.mark.parametrize("head", TORCH.values(), ids=TORCH)
def test_a_linear_layer_of_torch_is_the_classifier(tmp_path, head, prefix):
    body = {k: v for k, v in random_state().items() if not k.startswith("classifier")}
    path = save({**{prefix + k: v for k, v in body.items()}, **head}, tmp_path / "w.pth")
    found = convert_file(path, "v2")
    classifier = found.filled.variables["params"]["classifier"]
    assert np.array_equal(classifier["kernel"], np.ones((1280, 3)))
    assert np.array_equal(classifier["bias"], np.arange(3.0) * (len(head) == 2))
    assert set(head) <= set(found.filled.used)
    assert len(found.filled.constants) == 2 - len(head)


def test_the_hidden_layer_goes_with_the_classifier_that_replaced_it(tmp_path):
    network = mobilenet_v3_small(width_mult=0.5)
    network.classifier = torch.nn.Linear(288, 4)
    found = convert_file(save(network.state_dict(), tmp_path / "w.pth"), "v3-small")
    images = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32)
    expected = network.eval()(torch.tensor(images.transpose(0, 3, 1, 2))).detach().numpy()
    model = found.filled.model
    numbers = jax.jit(model.apply)(found.filled.variables, images)
    assert_close(numbers, expected, 1e-4, "logits")


def test_a_head_has_no_place_in_the_origins_files_and_is_not_verified(tmp_path, capsys, base):
    network = on_top_of(base, [], HEADS["teachable machine"][0]())
    path = save_keras(network, tmp_path, "h5")
    image = tmp_path / "image.png"
    keras.utils.save_img(image, PIXELS[0])
    err = error_of(capsys, convert(path, tmp_path / "flax", "--verify", str(image)))
    assert "which has another classifier than" in err
    assert not (tmp_path / "flax").exists()
