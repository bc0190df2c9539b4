from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen as nn
from jax import export

from flaxmobile.bench.plain import plain_layers
from flaxmobile.layers import Conv, ConvNorm, relu6
from tests.networks import randomised

KEY = jax.random.key(0)


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(
    "options",
    [
        {"features": 10},
        {"features": 10, "use_bias": False},
        {"features": 10, "kernel_size": 3, "stride": 2, "padding": "SAME"},
        {"features": 6, "kernel_size": 3, "groups": 6, "padding": "SAME"},
        {"features": 12, "kernel_size": 5, "groups": 6, "stride": 2, "padding": "SAME"},
        {"features": 4, "kernel_size": (1, 7), "groups": 2, "dilation": 2, "padding": "VALID"},
    ],
    ids=str,
)
def test_parameters_and_outputs_are_those_of_flax(options, dtype):
    ours = Conv(**options, dtype=dtype)
    size = options.get("kernel_size", 1)
    theirs = nn.Conv(
        options["features"],
        (size, size) if isinstance(size, int) else size,
        strides=options.get("stride", 1),
        kernel_dilation=options.get("dilation", 1),
        feature_group_count=options.get("groups", 1),
        padding=options.get("padding", "SAME"),
        use_bias=options.get("use_bias", True),
        dtype=dtype,
    )
    x = normal(2, 9, 16, 6)
    variables, peers = (
        jax.eval_shape(module.init, jax.random.key(1), x) for module in (ours, theirs)
    )
    describe = lambda tree: jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)  # noqa: E731
    assert describe(variables) == describe(peers)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}

    y, expected = jax.jit(lambda *a: (ours.apply(*a), theirs.apply(*a)))(
        randomised(jax.eval_shape(ours.init, jax.random.key(0), x)), x
    )
    assert y.dtype == dtype
    scale = float(jnp.abs(expected).max())
    np.testing.assert_allclose(
        y.astype(jnp.float32),
        expected.astype(jnp.float32),
        rtol=0,
        atol=4 * scale * float(jnp.finfo(dtype).eps),
    )


@pytest.mark.parametrize(
    ("module", "channels", "torch_shape"),
    [
        (Conv(512), 64, (512, 64, 1, 1)),
        (Conv(128, 3), 32, (128, 32, 3, 3)),
        (Conv(1024, 3, groups=1024), 1024, (1024, 1, 3, 3)),
    ],
)
def test_kernels_start_as_torchvisions(module, channels, torch_shape):
    """torchvision's fan-out counts all output channels, also of a depthwise convolution."""
    torch.manual_seed(0)
    peer = torch.nn.init.kaiming_normal_(torch.empty(torch_shape), mode="fan_out")
    kernel = module.init(jax.random.key(0), jnp.zeros((1, 3, 3, channels)))["params"]["kernel"]
    assert sorted(kernel.shape) == sorted(torch_shape)
    np.testing.assert_allclose(np.std(kernel), peer.std(), rtol=0.03)
    np.testing.assert_allclose(np.mean(kernel), 0, atol=0.03 * np.std(kernel))


def test_a_depthwise_convolution_of_one_channel_is_an_ordinary_one():
    x = normal(1, 8, 8, 1)
    variables = randomised(jax.eval_shape(Conv(4, 3).init, jax.random.key(0), x))
    assert variables["params"]["kernel"].shape == (3, 3, 1, 4)
    np.testing.assert_allclose(
        Conv(4, 3, groups=1).apply(variables, x),
        nn.Conv(4, (3, 3), padding=1).apply(variables, x),
        rtol=1e-5,
        atol=1e-5,
    )


def test_conv_norm_is_convolution_normalization_activation():
    x = normal(4, 8, 8, 6)
    module = ConvNorm(10, 3, stride=2, activation=relu6, norm_epsilon=1e-3)
    variables = randomised(jax.eval_shape(module.init, jax.random.key(0), x))
    shapes = jax.tree.map(jnp.shape, variables)
    assert shapes["params"] == {
        "conv": {"kernel": (3, 3, 6, 10)},
        "norm": {"scale": (10,), "bias": (10,)},
    }
    assert shapes["batch_stats"] == {"norm": {"mean": (10,), "var": (10,)}}
    kernel = variables["params"]["conv"]["kernel"]
    conv = nn.Conv(10, (3, 3), strides=2, padding=1, use_bias=False)
    y = np.asarray(conv.apply({"params": {"kernel": kernel}}, x))
    norm, stats = (
        jax.tree.map(np.asarray, variables[kind]["norm"]) for kind in ("params", "batch_stats")
    )
    for train in (False, True):
        used = {"mean": y.mean((0, 1, 2)), "var": y.var((0, 1, 2))} if train else stats
        normalized = (y - used["mean"]) / np.sqrt(used["var"] + 1e-3)
        expected = np.clip(normalized * norm["scale"] + norm["bias"], 0, 6)
        actual, _ = module.apply(variables, x, train, mutable=["batch_stats"])
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def test_frozen_norm_trains_with_the_running_statistics():
    x = normal(4, 8, 8, 6)
    module = ConvNorm(10, frozen_norm=True)
    variables = randomised(jax.eval_shape(module.init, jax.random.key(0), x))
    y, updates = module.apply(variables, x, train=True, mutable=["batch_stats"])
    np.testing.assert_array_equal(y, module.apply(variables, x))
    jax.tree.map(np.testing.assert_array_equal, updates["batch_stats"], variables["batch_stats"])


def test_folded_has_a_bias_and_no_normalization():
    x = jnp.zeros((4, 8, 8, 6))
    variables = randomised(jax.eval_shape(ConvNorm(10, 3, folded=True).init, jax.random.key(0), x))
    assert jax.tree.map(jnp.shape, variables) == {
        "params": {"conv": {"kernel": (3, 3, 6, 10), "bias": (10,)}}
    }


def training(unit, variables, x):
    """The mean of a unit's cubed outputs in training."""
    return (unit.apply(variables, x, train=True, mutable=["batch_stats"])[0] ** 3).mean()


@pytest.mark.parametrize(
    "options",
    [
        {"features": 16},
        {"features": 6},
        {"features": 8, "groups": 2},
        {"features": 8, "kernel_size": 3, "groups": 4, "stride": 2},
        {"features": 6, "kernel_size": 3, "stride": 2},
    ],
    ids=str,
)
def test_second_derivatives_are_those_of_plain_layers(options):
    """The second derivatives are a penalty's on the gradients of images and parameters."""
    with jax.enable_x64(True):
        unit = ConvNorm(**options, activation=jnp.tanh, dtype=np.float64)
        x = np.float64(normal(3, 6, 5, 4))
        variables = jax.tree.map(np.float64, randomised(jax.eval_shape(unit.init, KEY, x)))

        def penalty(params, x):
            def loss(params, x):
                return training(unit, {**variables, "params": params}, x)

            gradients = jax.grad(loss, (0, 1))(params, x)
            return sum((leaf**2).sum() for leaf in jax.tree.leaves(gradients))

        found = jax.jit(jax.grad(penalty, (0, 1)))(variables["params"], x)
        with plain_layers():
            plain = jax.jit(lambda *a: jax.grad(penalty, (0, 1))(*a))
            expected = plain(variables["params"], x)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-10 * np.abs(b).max())


@pytest.mark.parametrize("kept", ["bfloat16", "float32", "float64"])
@pytest.mark.parametrize("features", [6, 16])
def test_gradients_have_the_types_of_their_variables(features, kept):
    with jax.enable_x64(True):
        for computed in ("bfloat16", "float32", "float64"):
            unit, x = ConvNorm(features, dtype=computed), jnp.asarray(normal(2, 6, 6, 4), computed)
            variables = randomised(jax.eval_shape(unit.init, KEY, x))
            variables = jax.tree.map(lambda leaf: leaf.astype(kept), variables)
            gradients = jax.grad(partial(training, unit), (0, 1))
            of_variables, of_x = jax.eval_shape(gradients, variables, x)
            types = {leaf.dtype.name for leaf in jax.tree.leaves(of_variables["params"])}
            assert (types, of_x.dtype) == ({kept}, computed)


def test_a_symbolic_number_of_images_trains():
    """With images of one pixel a channel may have one value, and no unbiased variance."""
    unit = ConvNorm(16)
    variables = randomised(jax.eval_shape(unit.init, KEY, normal(1, 1, 1, 4)))
    images = jax.ShapeDtypeStruct((*export.symbolic_shape("count"), 1, 1, 4), np.float32)
    step = jax.jit(jax.grad(partial(training, unit)))
    program = export.export(step)(variables, images)
    x = normal(3, 1, 1, 4)
    chex.assert_trees_all_close(program.call(variables, x), step(variables, x), atol=1e-6)
