"""Equal channels and corrected biases: the same function, and less lost in int8."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from flaxmobile import Metadata, Preprocessing, create_model, export, fold_batch_norm, list_models
from flaxmobile.exporters.equalization import correct_biases, equalize
from flaxmobile.layers.activations import relu, relu6
from tests.exporters.runtimes import run_onnx
from tests.networks import random_variables, short_model, small_size

ROWS = {"ic_conv": 0, "mobilenet_v3_large": 2}
"""Network -> layers that read another alone; of others at least three."""


def folded(model, **options):
    model, variables = fold_batch_norm(model, random_variables(model))
    return model.clone(native=True, **options), variables


def images_for(model, count, size):
    shape = (count, size, size, model.in_channels)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("name", list_models())
def test_equal_channels_leave_the_function_as_it_is(name):
    model, variables = folded(short_model(name))
    images = images_for(model, 3, small_size(name))
    equal = equalize(model.apply, variables, images)
    pairs = zip(jax.tree.leaves(variables), jax.tree.leaves(equal), strict=True)
    changed = sum(a.ndim > 1 and not np.array_equal(a, b) for a, b in pairs)
    assert changed >= ROWS.get(name, 3)
    apply = jax.jit(model.apply)
    expected, found = (np.asarray(apply(each, images)) for each in (variables, equal))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3 * np.ptp(expected))


def convolve(x, kernel, groups=1):
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=numbers, feature_group_count=groups
    )


KERNELS = {
    "first": np.float32([[[[1, 2, 0.1, 0.01]]]]),
    "bias": np.float32([[[[0, 0, 0.1, 0]]]]),
    "second": np.ones((1, 1, 1, 4), np.float32),
}
ONES = np.ones((2, 3, 3, 1), np.float32)


@pytest.mark.parametrize(
    ("between", "second", "squares"),
    [
        (lambda x: x, 2, [2, 4, 0.4, 0.02]),
        (relu, 2, [2, 4, 0.4, 0.02]),
        (relu6, 2, [2, 4, 0.4, 0.02]),
        (relu6, 20, [6, 400, 1.2, 0.06]),  # what is cut off keeps its range
    ],
)
def test_channels_go_half_the_way_to_the_range_of_the_widest(between, second, squares):
    def network(variables, x):
        x = between(convolve(x, variables["first"]) + variables["bias"])
        return convolve(x, variables["second"], 4)

    given = {**KERNELS, "first": np.float32([[[[1, second, 0.1, 0.01]]]])}
    equal = equalize(network, given, ONES)
    found = (equal["first"] + equal["bias"]).ravel()
    np.testing.assert_allclose(found**2, squares, rtol=1e-5)
    np.testing.assert_allclose(network(equal, ONES), network(given, ONES), rtol=1e-6)


def test_a_channel_that_reads_nothing_keeps_steps_as_coarse_as_its_products():
    """XNNPACK refuses a convolution whose product of two steps has 256 steps of its output."""
    images = ONES * np.float32([1, 1e-5])
    given = {"first": np.float32([[[[1, 100]]]]), "second": np.ones((1, 1, 1, 2), np.float32)}

    def network(variables, x):
        return convolve(convolve(x, variables["first"], 2), variables["second"], 2)

    equal = equalize(network, given, images)
    np.testing.assert_allclose(equal["first"].ravel(), [1, 127], rtol=1e-6)


@pytest.mark.parametrize(
    "read",
    [
        lambda x, y: y + x,  # a shortcut
        lambda x, y: (y, x),  # an output
        lambda x, y: y + convolve(x, jnp.ones((1, 1, 4, 4))),
    ],
)
def test_what_others_read_keeps_its_channels(read):
    def network(variables, x):
        x = convolve(x, variables["first"]) + variables["bias"]
        return read(x, convolve(x, variables["second"], 4))

    equal = equalize(network, KERNELS, ONES)
    assert all(np.array_equal(equal[name], KERNELS[name]) for name in KERNELS)


@pytest.mark.parametrize(
    "between",
    [
        lambda x: 1 / (x + 1),
        lambda x: jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, 4)))[..., :4],
        lambda x: x[..., ::-1],
        lambda x: jnp.maximum(x, 0.5),
        lambda x: relu6(relu6(x) * 2),
        lambda x: x * jnp.arange(1.0, 5.0).reshape(1, 1, 1, 4),
        lambda x: jnp.swapaxes(x.reshape(-1, 9, 4), 1, 2).reshape(-1, 3, 3, 4),
        lambda x: x.reshape(-1, 3, 3, 2, 2).sum(4).repeat(2, axis=3),
    ],
)
def test_channels_behind_another_operation_keep_their_ranges(between):
    def network(variables, x):
        x = between(convolve(x, variables["first"]) + variables["bias"])
        return convolve(x, variables["second"], 4)

    equal = equalize(network, KERNELS, ONES)
    assert all(np.array_equal(equal[name], KERNELS[name]) for name in KERNELS)


def test_a_kernel_that_two_layers_share_keeps_its_channels():
    def network(variables, x):
        x = convolve(convolve(x, variables["first"]) + variables["bias"], variables["second"], 4)
        return convolve(x, variables["second"], 4)

    equal = equalize(network, KERNELS, ONES)
    assert all(np.array_equal(equal[name], KERNELS[name]) for name in KERNELS)


def test_a_kernel_of_groups_gets_the_factors_of_its_own_channels():
    rng = np.random.default_rng(0)
    variables = {
        "first": rng.normal(size=(1, 1, 3, 6)).astype(np.float32)
        * np.float32([1, 2, 4, 8, 16, 32]),
        "second": rng.normal(size=(3, 3, 3, 4)).astype(np.float32),
    }
    images = rng.normal(size=(2, 5, 5, 3)).astype(np.float32)

    def network(variables, x):
        return convolve(relu(convolve(x, variables["first"])), variables["second"], 2)

    equal = equalize(network, variables, images)
    assert not np.array_equal(equal["second"], variables["second"])
    np.testing.assert_allclose(network(equal, images), network(variables, images), atol=1e-4)


def test_a_bias_takes_the_mean_of_the_kernels_rounding_back():
    rng = np.random.default_rng(0)
    variables = {
        "kernel": rng.normal(size=(3, 3, 4, 5)).astype(np.float32),
        "bias": np.zeros((1, 1, 1, 5), np.float32),
    }
    images = (1 + rng.normal(size=(16, 8, 8, 4))).astype(np.float32)

    def network(variables, x):
        return convolve(x, variables["kernel"]) + variables["bias"]

    corrected = correct_biases(network, variables, images)
    assert corrected["kernel"] is variables["kernel"]
    steps = np.abs(variables["kernel"]).max((0, 1, 2)) / 127
    rounded = {**variables, "kernel": np.round(variables["kernel"] / steps) * steps}

    def mean_error(bias):
        found = network({**rounded, "bias": bias}, images) - network(variables, images)
        return np.abs(np.mean(found, (0, 1, 2))).max()

    assert mean_error(corrected["bias"]) < 0.01 * mean_error(variables["bias"])


def test_int8_of_unequal_channels_is_as_near_as_of_equal_ones(tmp_path):
    """Channels that differ by 64 have 4 of 256 steps otherwise."""
    model = create_model("v2", num_classes=10, alpha=0.35, activation="relu")
    model, variables = folded(model)
    images, errors = images_for(model, 8, 64), []
    for unequal in (False, True):
        params = {name: dict(block) for name, block in variables["params"].items()}
        for block in params.values():
            if unequal and "expand" in block:
                kernel, bias = (np.asarray(block["expand"]["conv"][k]) for k in ("kernel", "bias"))
                factors = np.float32(2) ** -np.random.default_rng(1).integers(0, 7, len(bias))
                block["expand"] = {"conv": {"kernel": kernel * factors, "bias": bias * factors}}
                conv = block["depthwise"]["conv"]
                kernel = np.asarray(conv["kernel"]) / factors
                block["depthwise"] = {"conv": {**conv, "kernel": kernel}}
        given = {"params": params}
        expected = np.asarray(jax.jit(model.apply)(given, images[:1]))
        file = tmp_path / f"{unequal}"
        settings = {"metadata": Metadata(Preprocessing(64)), "quantize": "int8"}
        export(model, given, file, "onnx", calibration=images, **settings)
        errors.append(
            np.abs(run_onnx(file, images[:1])["logits"] - expected).mean() / np.ptp(expected)
        )
    assert errors[1] < 1.3 * errors[0]
