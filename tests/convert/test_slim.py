"""TF-slim's networks under its names."""

import hashlib

import jax
import numpy as np
import pytest
from flax import traverse_util

from convert import engine
from convert.conversion import convert_file
from convert.layouts import SLIM
from convert.rules import RULES
from convert.targets import constants_of, leaves_of, targets_of
from flaxmobile import InputError
from flaxmobile.layers import Conv
from flaxmobile.registry import create_model, get_spec
from tests.convert.rules import each_rule, options_for
from tests.convert.tf_writer import write_checkpoint
from tests.networks import random_variables

AVERAGE = "/ExponentialMovingAverage"
VARIABLES = {
    "inception_v1": (230, "4f2e15ad63ef7480"),
    "inception_v2": (277, "6256314e021844a2"),
    "inception_v3": (388, "ce97747e8afc93e9"),
    "inception_v4": (598, "aa4d95c716b0da94"),
    "inception_resnet_v2": (898, "4b69b2f6cd688d41"),
}
"""Number of variables that TF-slim's code made under TensorFlow 2.13, and a digest of their names
and windows."""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.ckpt.index"


def written(rule, model, name):
    """A tensor's name in a checkpoint, where kernels have several words."""
    layer, _, leaf = name.rpartition("/")
    depthwise = {theirs for ours, theirs in rule.modules(model) if "depthwise/conv" in ours}
    if layer in depthwise and leaf == "weights":
        return f"{layer}/depthwise_weights"
    halves = {"depthwise/weights": "depthwise_weights", "pointwise/weights": "pointwise_weights"}
    for half, word in {**halves, "pointwise/biases": "biases"}.items():
        name = name.replace(f"Conv2d_1a_7x7/{half}", f"Conv2d_1a_7x7/{word}")
    return name


def variables_of(rule, model):
    """Random numbers where TF-slim has them."""
    flat = traverse_util.flatten_dict(random_variables(model), sep="/")
    return traverse_util.unflatten_dict(flat | constants_of(rule, leaves_of(model)), sep="/")


def tensors_of(rule, model, variables):
    found = engine.from_flax(rule, model, variables)
    return {written(rule, model, name): array for name, array in found.items()}


@each_rule(lambda origin, rule: origin == "slim" and rule.layout is SLIM)
def test_networks_are_read_with_the_averages_of_training(path, origin, name):
    rule = RULES[origin, name]
    model = create_model(name, **options_for(origin, name, rule.variants[0]))
    variables = variables_of(rule, model)
    tensors = tensors_of(rule, model, variables)
    for theirs, array in list(tensors.items())[:9]:
        if "moving_" not in theirs:
            tensors |= {theirs: 0 * array, f"{theirs}/RMSProp": array, f"{theirs}{AVERAGE}": array}
    found = convert_file(write_checkpoint(path, {"global_step": np.asarray(7), **tensors}), name)
    assert (found.origin, found.filled.model) == ("slim", model)
    jax.tree.map(np.testing.assert_array_equal, found.filled.variables, variables)
    assert any("took the averages of training" in line for line in found.describe())
    assert "global_step" in found.filled.left_out
    assert found.facts.preprocessing == rule.preprocessing


@each_rule(lambda origin, rule: origin == "slim" and "Inception" in rule.network.__name__)
def test_names_and_windows_are_those_of_tf_slims_code(origin, name):
    rule = RULES[origin, name]
    model = create_model(name, **options_for(origin, name, rule.variants[0]))
    lines = []
    for theirs, target in targets_of(rule, model, leaves_of(model)).items():
        window = target.shape[:2] if len(target.shape) == 4 else ()
        lines.append(" ".join([written(rule, model, theirs), *map(str, window)]))
    digest = hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()
    assert (len(lines), digest[:16]) == VARIABLES[name]


@each_rule(lambda origin, rule: origin == "slim")
def test_images_are_prepared_as_tf_slim_does(origin, name):
    preset, size = RULES[origin, name].preprocessing, get_spec(name).image_size
    assert (preset.image_size, preset.resize_size) == (size, int(size / 0.875))
    assert preset.mean == preset.std == (0.5, 0.5, 0.5)


def test_the_separable_layer_of_inception_v2_goes_channel_by_channel(path):
    rule = RULES["slim", "inception_v2"]
    model = create_model("inception_v2", **options_for("slim", "inception_v2", {}))
    tensors = tensors_of(rule, model, variables_of(rule, model))
    filters = tensors["InceptionV2/Conv2d_1a_7x7/depthwise_weights"]
    image = np.random.default_rng(0).normal(size=(7, 7, 3)).astype(np.float32)
    # TensorFlow places the products of a channel side by side.
    expected = np.concatenate(
        [np.einsum("hw,hwm->m", image[..., c], filters[:, :, c]) for c in range(3)]
    )
    found = convert_file(write_checkpoint(path, tensors), "inception_v2").filled
    stem = Conv(len(expected), 7, groups=3, padding="VALID", use_bias=False)
    params = {"params": found.variables["params"]["stem_depthwise"]}
    np.testing.assert_allclose(stem.apply(params, image[None]).ravel(), expected, rtol=1e-4)


@pytest.mark.parametrize("name", ["inception_v4", "inception_resnet_v2"])
def test_auxiliary_classifiers_that_our_networks_lack_are_left_out(path, name):
    root = RULES["slim", name].layout
    reason = root.reason_to_ignore("InceptionV4/AuxLogits/Conv2d_2a/weights")
    assert reason is not None and "serves training alone" in reason


@pytest.mark.parametrize(
    "name",
    [
        "xception_65/entry_flow/block1/unit_1/xception_module/separable_conv1_depthwise/weights",
        "blocks.0.stack.conv1.bn_dw.weight",
    ],
)
def test_deeplabs_xception_is_said_to_be_another_network(path, name):
    write_checkpoint(path, {name: np.zeros(3, np.float32)})
    with pytest.raises(InputError, match=r"it is DeepLab's Xception .* another network"):
        convert_file(path, "xception")
