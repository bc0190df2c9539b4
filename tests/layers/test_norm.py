from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import linen as nn
from jax.sharding import NamedSharding, PartitionSpec

from flaxmobile.layers import BatchNorm
from tests.xla import THOROUGH

SHAPE = (16, 5, 4, 6)


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return rng.normal(rng.normal(size=6), rng.uniform(0.5, 3, 6), SHAPE).astype(np.float32)


@pytest.fixture
def variables():
    rng = np.random.default_rng(1)
    return {
        "params": {
            "scale": rng.uniform(0.5, 2, 6).astype(np.float32),
            "bias": rng.normal(size=6).astype(np.float32),
        },
        "batch_stats": {
            "mean": rng.normal(size=6).astype(np.float32),
            "var": rng.uniform(0.5, 2, 6).astype(np.float32),
        },
    }


def train(norm, variables, x):
    """Output, updated statistics, and gradients of sum(output * ramp) in (params, x)."""

    def weighted(params, x):
        y, updates = norm.apply(
            {**variables, "params": params}, x, use_running_average=False, mutable=["batch_stats"]
        )
        ramp = jnp.linspace(-1, 2, x.size).reshape(x.shape)
        return (y * ramp).sum(), (y, updates["batch_stats"])

    gradients, (y, stats) = jax.grad(weighted, (0, 1), has_aux=True)(variables["params"], x)
    return y, stats, gradients


def assert_close(actual, expected, tolerance=1e-5):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance),
        actual,
        expected,
    )


@pytest.mark.parametrize(("momentum", "epsilon"), [(0.9, 1e-5), (0.99, 1e-3)])
def test_training_is_the_papers_formula(images, variables, momentum, epsilon):
    y, stats, _ = train(BatchNorm(momentum, epsilon), variables, images)
    mean, var = images.mean((0, 1, 2)), images.var((0, 1, 2))
    old, params = variables["batch_stats"], variables["params"]
    normalized = (images - mean) / np.sqrt(var + epsilon)
    assert_close(y, normalized * params["scale"] + params["bias"])
    n = images.size // 6
    unbiased = var * n / (n - 1)
    assert_close(stats["mean"], momentum * old["mean"] + (1 - momentum) * mean, 1e-6)
    assert_close(stats["var"], momentum * old["var"] + (1 - momentum) * unbiased, 1e-6)


def test_inference_uses_the_running_statistics_and_leaves_them(images, variables):
    stats, params = variables["batch_stats"], variables["params"]
    y, updates = BatchNorm(epsilon=1e-3).apply(variables, images, mutable=["batch_stats"])
    normalized = (images - stats["mean"]) / np.sqrt(stats["var"] + 1e-3)
    assert_close(y, normalized * params["scale"] + params["bias"])
    assert_close(updates["batch_stats"], stats, 0)


def test_inference_is_the_default(images, variables):
    y = BatchNorm().apply(variables, images)
    assert_close(y, BatchNorm().apply(variables, images, use_running_average=True), 0)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("momentum", "epsilon"), [(0.1, 1e-5), (0.01, 1e-3)])
def test_equals_torch(images, variables, training, momentum, epsilon):
    """Value, statistics and all three gradients; torch's momentum is the weight of the new."""
    peer = torch.nn.BatchNorm2d(6, eps=epsilon, momentum=momentum).train(training)
    names = {"weight": "scale", "bias": "bias"}
    peer.load_state_dict(
        {name: torch.from_numpy(variables["params"][ours]) for name, ours in names.items()}
        | {
            f"running_{name}": torch.from_numpy(value)
            for name, value in variables["batch_stats"].items()
        }
        | {"num_batches_tracked": torch.tensor(0)}
    )
    x = torch.from_numpy(images.transpose(0, 3, 1, 2)).requires_grad_()
    ramp = np.linspace(-1, 2, images.size, dtype=np.float32).reshape(SHAPE)
    (peer(x) * torch.from_numpy(ramp.transpose(0, 3, 1, 2))).sum().backward()

    norm = BatchNorm(1 - momentum, epsilon)

    def weighted(params, x):
        y, updates = norm.apply(
            {**variables, "params": params},
            x,
            use_running_average=not training,
            mutable=["batch_stats"],
        )
        return (y * ramp).sum(), updates["batch_stats"]

    (params, dx), stats = jax.grad(weighted, (0, 1), has_aux=True)(variables["params"], images)
    assert_close(dx, x.grad.numpy().transpose(0, 2, 3, 1))
    assert_close(params["scale"], peer.weight.grad.numpy(), 2e-5)
    assert_close(params["bias"], peer.bias.grad.numpy(), 2e-5)
    assert_close(stats["mean"], peer.running_mean.numpy())
    assert_close(stats["var"], peer.running_var.numpy())


def test_differs_from_flax_in_the_running_variance_alone(images, variables):
    ours = train(BatchNorm(0.9, 1e-5), variables, images)
    theirs = train(nn.BatchNorm(momentum=0.9, epsilon=1e-5), variables, images)
    assert_close((ours[0], ours[1]["mean"]), (theirs[0], theirs[1]["mean"]))
    assert_close(ours[2], theirs[2], 1e-4)
    old = variables["batch_stats"]["var"]
    n = images.size // 6
    assert_close((ours[1]["var"] - 0.9 * old) * (n - 1) / n, theirs[1]["var"] - 0.9 * old)


def test_bfloat16_has_float32_statistics_and_rounds_once(images, variables):
    x = jnp.asarray(images, jnp.bfloat16)
    y, stats, (params, dx) = train(BatchNorm(dtype=jnp.bfloat16), variables, x)
    exact, exact_stats, _ = train(BatchNorm(), variables, x.astype(jnp.float32))
    assert (y.dtype, dx.dtype) == (jnp.bfloat16, jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves((stats, params))} == {jnp.dtype("float32")}
    assert_close(stats, exact_stats, 1e-6)
    np.testing.assert_allclose(y.astype(jnp.float32), exact, rtol=2**-8, atol=1e-6)


def test_pmap_with_axis_name_equals_the_whole_batch(images, variables):
    y, stats, (params, dx) = train(BatchNorm(), variables, images)
    shards = images.reshape(8, 2, *SHAPE[1:])
    ramp = jnp.linspace(-1, 2, images.size).reshape(shards.shape)
    norm = BatchNorm(axis_name="data")

    def weighted(params, x, ramp):
        y, updates = norm.apply(
            {**variables, "params": params}, x, use_running_average=False, mutable=["batch_stats"]
        )
        return (y * ramp).sum(), (y, updates["batch_stats"])

    gradient = jax.pmap(
        jax.grad(weighted, (0, 1), has_aux=True), axis_name="data", in_axes=(None, 0, 0)
    )
    (shard_params, shard_dx), (shard_y, shard_stats) = gradient(variables["params"], shards, ramp)
    assert_close(shard_y.reshape(SHAPE), y)
    assert_close(shard_dx.reshape(SHAPE), dx)
    assert_close(jax.tree.map(lambda leaf: leaf.sum(0), shard_params), params, 2e-5)
    for device in range(8):
        assert_close(jax.tree.map(lambda leaf, d=device: leaf[d], shard_stats), stats, 1e-6)


def test_pmap_without_axis_name_sees_each_shard_alone(images, variables):
    def statistics(x):
        return BatchNorm().apply(variables, x, use_running_average=False, mutable=["batch_stats"])[
            1
        ]["batch_stats"]

    shards = images.reshape(8, 2, *SHAPE[1:])
    expected = jax.tree.map(lambda *leaves: np.stack(leaves), *map(statistics, shards))
    assert_close(jax.pmap(statistics)(shards), expected, 1e-6)
    assert np.ptp(expected["mean"], axis=0).min() > 1e-3


def test_sharded_jit_equals_the_whole_batch(images, variables):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    step = jax.jit(lambda variables, x: train(BatchNorm(), variables, x))
    sharded = jax.device_put(images, NamedSharding(mesh, PartitionSpec("data")))
    replicated = jax.device_put(variables, NamedSharding(mesh, PartitionSpec()))
    assert_close(step(replicated, sharded), train(BatchNorm(), variables, images), 2e-5)


def test_constant_channels_give_no_nan(variables):
    """E[x²] - E[x]² rounds below -epsilon for some constants, whose root is NaN (flax#1491)."""
    for x in np.linspace(30, 300, 20, dtype=np.float32):
        results = train(BatchNorm(), variables, np.full(SHAPE, x + np.arange(6, dtype=np.float32)))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(results))


def test_a_single_value_per_channel_has_variance_zero(variables):
    x = np.ones((1, 1, 1, 6), np.float32)
    _, stats, _ = train(BatchNorm(), variables, x)
    assert_close(stats["var"], 0.9 * variables["batch_stats"]["var"], 1e-6)


@pytest.mark.parametrize("mean", [0.0, 1.0, 10.0, 100.0])
def test_the_variance_loses_no_more_digits_than_one_pass_must(mean):
    """E[x²] is rounded to a share of itself: 3e-3 of a variance of 1 at 100 ± 1, as in Flax.

    A pass for the mean and another for the variance would lose none, and cost one more reading of
    every activation.
    """
    x = np.random.default_rng(0).normal(mean, 1, (32, 14, 14, 6)).astype(np.float32)
    variables = BatchNorm().init(jax.random.key(0), x)
    norm = BatchNorm(momentum=0.0)
    _, stats, _ = jax.jit(partial(train, norm), compiler_options=THOROUGH)(variables, x)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(stats["mean"], exact.mean((0, 1, 2)), rtol=4e-7, atol=4e-7)
    bound = 4 * float(jnp.finfo(jnp.float32).eps) * (1 + mean**2)
    np.testing.assert_allclose(stats["var"], exact.var((0, 1, 2), ddof=1), rtol=0, atol=bound)
