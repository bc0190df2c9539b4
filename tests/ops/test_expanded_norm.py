"""Normalization of an expansion from its input: the same results in fewer passes."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from flaxmobile.layers import BatchNorm, Conv, ConvNorm, relu6
from flaxmobile.ops import batch_norm, expanded_norm, pointwise_conv
from flaxmobile.ops.expanded_norm import Factors
from tests.networks import randomised
from tests.xla import THOROUGH

CHANNELS, FEATURES = 6, 24


def by_output(norm, variables, x, kernel):
    """Apply the definition: the convolution, then its normalization."""
    y = pointwise_conv(x, kernel.astype(x.dtype))
    return norm.apply(variables, y, False, mutable=["batch_stats"])


def by_input(norm, variables, x, kernel):
    factors = Factors(x, kernel.astype(x.dtype))
    y = pointwise_conv(*factors)
    return norm.apply(variables, y, False, factors, mutable=["batch_stats"])


def step(normalize, norm, variables, x, kernel, ramp):
    """Gradients of sum(output * ramp) in (params, x, kernel), and (output, statistics)."""

    def weighted(params, x, kernel):
        y, updates = normalize(norm, {**variables, "params": params}, x, kernel)
        return (y * ramp).sum(), (y, updates)

    return jax.grad(weighted, (0, 1, 2), has_aux=True)(variables["params"], x, kernel)


def compiled_step(normalize, norm):
    """Compile `step` as a user does: the order of its sums decides the last digits of float32."""
    return jax.jit(partial(step, normalize, norm), compiler_options=THOROUGH)


@pytest.fixture(params=[0.0, 3.0], ids="mean {}".format)
def given(request):
    """Variables, images, a kernel and a ramp in float64."""
    rng = np.random.default_rng(0)
    some = partial(rng.uniform, 0.5, 2, FEATURES)
    variables = {
        "params": {"scale": some(), "bias": rng.normal(size=FEATURES)},
        "batch_stats": {"mean": rng.normal(size=FEATURES), "var": some()},
    }
    x = rng.normal(request.param * rng.normal(size=CHANNELS), 1, (16, 5, 4, CHANNELS))
    kernel = rng.normal(size=(1, 1, CHANNELS, FEATURES))
    return variables, x, kernel, rng.normal(size=(16, 5, 4, FEATURES))


def as_type(tree, dtype):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)


def assert_close(found, expected, tolerance):
    """Compare to a fraction of the largest value of each array."""

    def compare(a, b):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())

    jax.tree.map(compare, found, expected)


@pytest.mark.parametrize("epsilon", [1e-5, 0.1])
def test_all_results_are_those_of_the_output(given, epsilon):
    with jax.enable_x64(True):
        norm = BatchNorm(epsilon=epsilon, dtype=np.float64)
        assert_close(step(by_input, norm, *given), step(by_output, norm, *given), 1e-12)


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_an_accelerators_results_are_the_same(given, platform, monkeypatch):
    def as_elsewhere(*arrays, default, **forms):
        return forms.get(platform, default)(*arrays)

    for module in (batch_norm, expanded_norm):
        monkeypatch.setattr(module, "by_platform", as_elsewhere)
    with jax.enable_x64(True):
        norm = BatchNorm(dtype=np.float64)
        assert_close(step(by_input, norm, *given), step(by_output, norm, *given), 1e-12)


@pytest.mark.parametrize("size", [1, 1e-3])
def test_float32_is_as_close(given, size):
    """Channels have a large or small variance; far from 0 both ways lose digits."""
    variables, x, kernel, ramp = given
    given = variables, x, size * kernel, ramp
    bound = 1e-6 * (1 + float(np.square(x.mean((0, 1, 2))).max()))
    with jax.enable_x64(True):
        exact = step(by_output, BatchNorm(dtype=np.float64), *given)
    for normalize in (by_input, by_output):
        assert_close(step(normalize, BatchNorm(), *as_type(given, np.float32)), exact, bound)


def test_channels_that_cancel_keep_the_digits_of_what_they_cancel(given):
    """The difference of two channels 1e-3 apart has a millionth of their variance."""
    variables, x, kernel, ramp = given
    x[..., 1] = x[..., 0] + 1e-3 * x[..., 1]
    kernel[..., :2, 0] = [[[1, -1]]]
    kernel[..., 2:, 0] = 0
    with jax.enable_x64(True):
        _, (y, updates) = step(by_output, BatchNorm(dtype=np.float64), variables, x, kernel, ramp)
    _, found = step(by_input, BatchNorm(), *as_type((variables, x, kernel, ramp), np.float32))
    assert_close(found, (y, updates), 1e-2)


def test_bfloat16_has_float32_statistics(given):
    variables, x, kernel, ramp = as_type(given, np.float32)
    narrow = compiled_step(by_input, BatchNorm(dtype=jnp.bfloat16))
    found = narrow(variables, x.astype(jnp.bfloat16), kernel, ramp)
    x, kernel = (a.astype(jnp.bfloat16).astype(np.float32) for a in (x, kernel))
    exact = compiled_step(by_output, BatchNorm())(variables, x, kernel, ramp)
    (params, dx, d_kernel), (y, updates) = found
    assert (y.dtype, dx.dtype) == (jnp.bfloat16, jnp.bfloat16)
    narrow = {leaf.dtype for leaf in jax.tree.leaves((params, d_kernel, updates))}
    assert narrow == {jnp.dtype("float32")}
    assert_close(updates, exact[1][1], 1e-5)
    assert_close((params, dx, d_kernel, y), (*exact[0], exact[1][0]), 2e-2)


def test_pmap_with_axis_name_equals_the_whole_batch(given):
    variables, x, kernel, ramp = given
    with jax.enable_x64(True):
        (params, dx, d_kernel), (y, updates) = step(
            by_output, BatchNorm(dtype=np.float64), variables, x, kernel, ramp
        )
        norm = BatchNorm(dtype=np.float64, axis_name="data")
        mapped = jax.pmap(partial(step, by_input, norm), "data", in_axes=(None, 0, None, 0))
        shards = [a.reshape(8, 2, *a.shape[1:]) for a in (x, ramp)]
        found, (shard_y, shard_updates) = mapped(variables, shards[0], kernel, shards[1])
        assert_close((found[1].reshape(x.shape), shard_y.reshape(y.shape)), (dx, y), 1e-12)
        total = jax.tree.map(lambda leaf: leaf.sum(0), (found[0], found[2]))
        assert_close(total, (params, d_kernel), 1e-12)
        for device in range(8):
            one = jax.tree.map(lambda leaf, d=device: leaf[d], shard_updates)
            assert_close(one, updates, 1e-12)


def test_sharded_jit_equals_the_whole_batch(given):
    variables, x, kernel, ramp = as_type(given, np.float32)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    over = partial(jax.device_put, device=NamedSharding(mesh, PartitionSpec("data")))
    norm = BatchNorm()
    found, expected = (compiled_step(by, norm) for by in (by_input, by_output))
    arrays = variables, x, kernel, ramp
    assert_close(found(variables, over(x), kernel, over(ramp)), expected(*arrays), 5e-6)


def test_constant_channels_give_no_nan(given):
    variables, x, kernel, ramp = as_type(given, np.float32)
    for value in np.linspace(30, 300, 20, dtype=np.float32):
        x = jnp.full(x.shape, value + np.arange(CHANNELS, dtype=np.float32))
        results = step(by_input, BatchNorm(), variables, x, kernel, ramp)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(results))


@pytest.mark.parametrize(
    ("options", "by_input"),
    [
        ({"features": 24}, True),
        ({"features": 24, "kernel_size": (1, 1)}, True),
        ({"features": 23}, False),
        ({"features": 24, "kernel_size": 3}, False),
        ({"features": 24, "stride": 2}, False),
        ({"features": 24, "groups": 2}, False),
        ({"features": 24, "frozen_norm": True}, False),
    ],
    ids=str,
)
def test_which_units_are_normalized_by_their_input(given, options, by_input):
    """Either way the results are those of a convolution and its normalization."""
    x = given[1]
    unit = ConvNorm(**options, activation=relu6, dtype=np.float64)

    def two_layers(variables, x):
        params, stats = variables["params"], variables["batch_stats"]
        place = {name: options[name] for name in options if name != "frozen_norm"}
        conv = Conv(**place, use_bias=False, dtype=np.float64)
        norm = BatchNorm(dtype=np.float64)
        y, updates = norm.apply(
            {"params": params["norm"], "batch_stats": stats["norm"]},
            conv.apply({"params": params["conv"]}, x),
            options.get("frozen_norm", False),
            mutable=["batch_stats"],
        )
        return relu6(y), {"batch_stats": {"norm": updates["batch_stats"]}}

    def one_unit(variables, x):
        return unit.apply(variables, x, train=True, mutable=["batch_stats"])

    def step(layers):
        def loss(variables, x):
            y, updates = layers(variables, x)
            return jnp.sin(y).sum(), updates

        return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True)).lower(variables, x)

    with jax.enable_x64(True):
        shapes = jax.eval_shape(unit.init, jax.random.key(0), x)
        variables = as_type(randomised(shapes), np.float64)
        lowered = step(one_unit)
        assert (f"tensor<{CHANNELS}x{CHANNELS}xf64>" in lowered.as_text()) == by_input
        found, expected = (
            low.compile(THOROUGH)(variables, x) for low in (lowered, step(two_layers))
        )
        assert_close(found, expected, 1e-12)


def test_a_wide_map_is_read_only_by_its_sum_and_two_products():
    """Normalization by the output reads two maps twice more in a CPU's backward pass."""
    x, kernel = jnp.zeros((8, 28, 28, 32)), jnp.zeros((1, 1, 32, 192))
    leaves = jnp.ones(192)
    variables = {
        "params": {"scale": leaves, "bias": leaves},
        "batch_stats": {"mean": leaves, "var": leaves},
    }
    ramp = jnp.zeros((8, 28, 28, 192))

    def traffic(normalize):
        lowered = jax.jit(partial(step, normalize, BatchNorm())).lower(variables, x, kernel, ramp)
        return lowered.compile(THOROUGH).cost_analysis()["bytes accessed"]

    maps = (traffic(by_output) - traffic(by_input)) / ramp.nbytes
    assert maps > 3


def test_training_does_not_use_the_inference_form():
    """The inference form sums few channels one by one: each use would recompute it."""
    x, kernel = np.zeros((1, 28, 28, 16), np.float32), np.zeros((1, 1, 16, 64), np.float32)
    leaves = np.ones(64, np.float32)
    variables = {
        "params": {"scale": leaves, "bias": leaves},
        "batch_stats": {"mean": leaves, "var": leaves},
    }
    ramp = np.zeros((1, 28, 28, 64), np.float32)
    for normalize in (by_input, by_output):
        export = jax.export.export(
            jax.jit(partial(step, normalize, BatchNorm())), platforms=["cpu"]
        )
        assert not re.search(
            r"stablehlo.slice.*1x28x28x16xf32", export(variables, x, kernel, ramp).mlir_module()
        )
