"""The sums over the pixels: values, gradients, and passes over the map."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxmobile.ops.sums import channel_sums
from tests.xla import THOROUGH

SHAPES = [(2, 48, 56, 24), (3, 47, 47, 7), (1, 45, 46, 130), (4, 7, 7, 16), (6, 5)]
"""Large maps, with and without a divisor of their pixels, and small ones."""


def _arrays(shape, dtype=np.float64):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=shape), dtype) for _ in range(2)]


@pytest.mark.parametrize("shape", SHAPES)
def test_sums_and_their_gradients(shape):
    with jax.enable_x64(True):
        x, y = _arrays(shape)
        axes = tuple(range(len(shape) - 1))

        def of(function):
            def loss(x, y):
                a, b = function(x, y)
                return (jnp.sin(a) + b * b).sum()

            return jax.value_and_grad(loss, (0, 1))(x, y)

        found, expected = of(channel_sums), of(lambda x, y: (x.sum(axes), (x * y).sum(axes)))
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11)


def test_bfloat16_is_summed_in_float32():
    x, y = _arrays((2, 64, 64, 8), jnp.bfloat16)
    wide = [np.asarray(a, np.float64) for a in (x, y)]
    for found, expected in zip(channel_sums(x, y), (wide[0], wide[0] * wide[1]), strict=True):
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, expected.sum((0, 1, 2)), atol=1e-2)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_is_not_hidden(value):
    x = jnp.ones((1, 64, 64, 4)).at[0, 3, 3, 1].set(value)
    for total in channel_sums(x, x):
        np.testing.assert_array_equal(np.isfinite(total), [True, False, True, True])


def test_a_large_map_is_read_once_on_a_cpu():
    """One operation reads it; in a plain program each sum has its own."""
    x = jnp.zeros((8, 56, 56, 24))

    def readers(function):
        text = jax.jit(function).lower(x, x).compile(THOROUGH).as_text()
        entry = text[text.index("ENTRY") :]
        maps = set(re.findall(r"%?([\w.-]+) = f32\[8,56,56,24\]\S* parameter", entry))
        for view in re.findall(r"%?([\w.-]+) = \S+ bitcast\(%?([\w.-]+)\)", entry):
            maps |= {view[0]} if view[1] in maps else set()
        calls = re.findall(r" fusion\(([^)]*)\)", entry)
        return sum(bool(maps & set(re.findall(r"[\w.-]+", call))) for call in calls)

    assert readers(channel_sums) == 1
    assert readers(lambda x, y: (x.sum((0, 1, 2)), (x * y).sum((0, 1, 2)))) == 2
