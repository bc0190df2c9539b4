import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.errors import InvalidRngError
from jax.sharding import NamedSharding, PartitionSpec

from flaxmobile.layers import Dropout

KEYS = {"dropout": jax.random.key(3)}


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.9])
def test_drops_the_given_share_and_scales_up_the_rest(rate):
    x = jnp.full((400, 1000), 2.0)
    y = np.asarray(Dropout(rate).apply({}, x, deterministic=False, rngs=KEYS))
    kept = y != 0
    # 400,000 draws: their share has a standard deviation below 0.0008.
    np.testing.assert_allclose(kept.mean(), 1 - rate, atol=0.004)
    np.testing.assert_allclose(y[kept], 2 / (1 - rate), rtol=1e-6)


def test_inference_is_the_default_and_changes_nothing():
    x = jnp.linspace(-1, 1, 32).reshape(4, 8)
    np.testing.assert_array_equal(Dropout(0.5).apply({}, x), x)


def test_rate_zero_needs_no_key():
    x = jnp.linspace(-1, 1, 32).reshape(4, 8)
    np.testing.assert_array_equal(Dropout(0.0).apply({}, x, deterministic=False), x)
    with pytest.raises(InvalidRngError, match="dropout"):
        Dropout(0.5).apply({}, x, deterministic=False)


def test_infinities_that_are_dropped_become_zero():
    y = Dropout(0.5).apply({}, jnp.full((100, 10), jnp.inf), deterministic=False, rngs=KEYS)
    assert set(np.unique(y)) == {0, np.inf}


def test_the_gradient_is_the_mask():
    x = jnp.ones((16, 8))
    apply = lambda x: Dropout(0.5).apply({}, x, deterministic=False, rngs=KEYS)  # noqa: E731
    np.testing.assert_array_equal(jax.grad(lambda x: apply(x).sum())(x), apply(x))


def test_the_mask_is_the_same_on_one_device_under_sharded_jit_and_under_pmap():
    x = jnp.linspace(1, 2, 80).reshape(16, 5)
    drop = lambda x: Dropout(0.5).apply({}, x, deterministic=False, rngs=KEYS)  # noqa: E731
    alone = drop(x)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharded = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
    np.testing.assert_array_equal(jax.jit(drop)(sharded), alone)

    mapped = jax.pmap(
        lambda x: Dropout(0.5, "data").apply({}, x, deterministic=False, rngs=KEYS),
        axis_name="data",
    )
    shards = np.asarray(mapped(x.reshape(8, 2, 5)))
    np.testing.assert_array_equal(shards.reshape(16, 5), alone)
    assert len({(shard != 0).tobytes() for shard in shards}) > 1  # the devices' masks differ


def test_variables_are_made_outside_of_the_mapped_function():
    drop = Dropout(0.5, "data")
    keys = {"params": jax.random.key(0), **KEYS}
    assert drop.init(keys, jnp.ones((4, 3)), deterministic=False) == {}
