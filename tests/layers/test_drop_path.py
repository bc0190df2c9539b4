"""Stochastic depth against torchvision's function and timm's rates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import timm
import torch
from flax import linen as nn
from torchvision.ops import stochastic_depth

from flaxmobile import InputError, create_model
from flaxmobile.layers import DropPath
from tests.networks import random_variables, short_model, small_size

NAMES = ("mobilenet_v3_large", "mobilenet_v3_small", "mobilenet_v4")
each_network = pytest.mark.parametrize("name", NAMES)


def dropped(x, rate, key=0, axis_name=None):
    rngs = {"dropout": jax.random.key(key)}
    return DropPath(rate, axis_name).apply({}, x, deterministic=False, rngs=rngs)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_images_are_dropped_as_torchvision_drops_them(rate):
    x = np.random.default_rng(0).normal(size=(20_000, 2, 1, 3)).astype(np.float32)
    torch.manual_seed(0)
    theirs = stochastic_depth(torch.tensor(x), rate, "row").numpy()
    ours = np.asarray(dropped(x, rate))
    for y in (ours, theirs):
        kept = y.any(axis=(1, 2, 3))
        np.testing.assert_allclose(y[kept], x[kept] / (1 - rate), rtol=1e-6)  # the whole image
        assert kept.mean() == pytest.approx(1 - rate, abs=0.012)  # four deviations at 0.5
        assert (y / x).mean() == pytest.approx(1, abs=0.03)


def test_a_branch_is_left_alone_where_nothing_is_dropped():
    x = jnp.ones((4, 2, 2, 1))
    assert DropPath(0.5).apply({}, x) is x
    assert DropPath(0.0).apply({}, x, deterministic=False) is x


def test_devices_drop_their_rows_of_the_whole_batch():
    x = np.ones((8, 2, 2, 1), np.float32)
    whole = dropped(x, 0.5)
    parts = jax.pmap(lambda x: dropped(x, 0.5, axis_name="batch"), axis_name="batch")
    np.testing.assert_array_equal(parts(x.reshape(4, 2, 2, 2, 1)).reshape(x.shape), whole)


@pytest.mark.parametrize(
    ("name", "options", "theirs"),
    [
        ("mobilenet_v3_large", {}, "mobilenetv3_large_100"),
        ("mobilenet_v3_small", {}, "mobilenetv3_small_100"),
        ("mobilenet_v4", {"variant": "medium"}, "mobilenetv4_conv_medium"),
    ],
)
def test_rates_are_timms(name, options, theirs):
    network = timm.create_model(theirs, drop_path_rate=0.3)
    blocks = [block for stage in network.blocks for block in stage]
    expected = [getattr(each.drop_path, "drop_prob", 0.0) * each.has_skip for each in blocks]
    model = create_model(name, drop_path_rate=0.3, **options)
    drawn = {}

    def record(call, args, kwargs, context):
        if isinstance(context.module, DropPath):
            drawn[context.module.path[-2]] = context.module.rate
        return call(*args, **kwargs)

    def run(key, images):
        with nn.intercept_methods(record):
            return model.init(key, images)

    size = model.min_image_size
    jax.eval_shape(run, jax.random.key(0), jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32))
    found = [drawn.get(block.name, 0.0) for block in model.blocks()[1:]]
    assert found == pytest.approx(expected)
    assert max(found) > 0.2


@each_network
def test_evaluation_and_a_rate_of_0_are_the_plain_network(name):
    model = short_model(name, norm_momentum=0.9, dropout_rate=0.0)
    deep = model.clone(drop_path_rate=0.5)
    variables, size = random_variables(model), small_size(name)
    images = np.random.default_rng(0).normal(size=(4, size, size, 3)).astype(np.float32)
    key = {"dropout": jax.random.key(1)}

    def program(network, train):
        return str(
            jax.make_jaxpr(lambda v, x: network.apply(v, x, train, **_rngs(train, key)))(
                variables, images
            )
        )

    def _rngs(train, key):
        return {"mutable": ["batch_stats"], "rngs": key} if train else {}

    assert program(deep, False) == program(model, False)
    assert program(model.clone(drop_path_rate=0.0), True) == program(model, True)
    assert program(deep, True) != program(model, True)


@each_network
def test_rates_that_are_no_fraction_are_refused(name):
    with pytest.raises(InputError, match=r"drop_path_rate is 1\.0; accepted: 0 or more, below 1"):
        create_model(name, drop_path_rate=1.0)


def test_recomputed_blocks_drop_the_same_images():
    model = short_model("mobilenet_v3_small", dropout_rate=0.0, drop_path_rate=0.5)
    variables = random_variables(model)
    images = np.random.default_rng(0).normal(size=(8, 64, 64, 3)).astype(np.float32)

    def gradient(network):
        def loss(params):
            y, _ = network.apply(
                {**variables, "params": params}, images, True,
                mutable=["batch_stats"], rngs={"dropout": jax.random.key(3)},
            )  # fmt: skip
            return (y**2).mean()

        return jax.jit(jax.value_and_grad(loss))(variables["params"])

    expected, found = gradient(model), gradient(model.clone(remat=True))
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected[1]))
    for ours, theirs in zip(*map(jax.tree.leaves, (found[1], expected[1])), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * largest)
