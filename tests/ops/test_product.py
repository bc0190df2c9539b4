"""The matrix product with the kernel's gradient in the faster orientation."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxmobile.ops.product import product
from tests.xla import THOROUGH

CHANNELS = [(16, 96), (96, 16), (24, 24)]
"""Into and out of the wide part of a block; input, output."""


def problem(channels, dtype=np.float64):
    rng = np.random.default_rng(0)
    shapes = ((50, channels[0]), channels)
    return [jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes]


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("dtype", [np.float64, jnp.bfloat16])
def test_values_and_gradients_are_those_of_a_plain_product(channels, dtype):
    with jax.enable_x64(True):
        arguments = problem(channels, dtype)
        results = []
        for function in (product, jnp.matmul):
            y, pull = jax.vjp(jax.jit(function), *arguments)
            results.append((y, *pull(jnp.sin(y))))
        for found, expected in zip(*results, strict=True):
            assert found.dtype == dtype
            np.testing.assert_allclose(found, expected, rtol=1e-2 if dtype != np.float64 else 1e-12)


@pytest.mark.parametrize("channels", CHANNELS)
def test_the_smaller_side_comes_first(channels):
    x, kernel = problem(channels, np.float32)

    def gradient(x, kernel):
        return jax.grad(lambda kernel: jnp.sin(product(x, kernel)).sum())(kernel)

    text = jax.jit(gradient).lower(x, kernel).compile(THOROUGH).as_text()
    small, large = sorted(channels)
    assert re.search(rf"f32\[{small},{large}\]\S* dot\(", text)
    assert small == large or not re.search(rf"f32\[{large},{small}\]\S* dot\(", text)
