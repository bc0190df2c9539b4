"""The mean over an image: values, gradients, and what the CPU computes for it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxmobile.compiler import inference_options
from flaxmobile.ops import depthwise_conv, global_mean
from tests.xla import THOROUGH

SHAPES = [(2, 28, 28, 120), (3, 7, 7, 576), (1, 1, 5, 3)]


def plain(x):
    return x.mean((1, 2))


def images(shape, dtype=np.float64):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), dtype)


@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients(shape):
    with jax.enable_x64(True):
        x = images(shape)
        np.testing.assert_allclose(global_mean(x), plain(x), rtol=0, atol=1e-12)
        for derive in (
            lambda f: jax.grad(lambda x: jnp.sin(f(x)).sum())(x),
            lambda f: jax.vmap(f)(x[None]),
        ):
            pairs = zip(*map(jax.tree.leaves, map(derive, (global_mean, plain))), strict=True)
            for found, expected in pairs:
                np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_bfloat16_is_summed_in_float32():
    x = images((2, 56, 56, 8), jnp.bfloat16)
    found = global_mean(x)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, plain(np.asarray(x, np.float64)), atol=1e-6)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_stays_in_its_image_and_channel(value):
    found = global_mean(jnp.ones((2, 3, 3, 2)).at[0, 1, 1, 0].set(value))
    np.testing.assert_array_equal(np.isfinite(found), [[False, True], [True, True]])


def test_a_cpu_does_not_fuse_the_image_into_the_sum():
    """XLA's reduction would fuse with the 25 taps of a convolution, and not be vectorized."""

    def mean(x, kernel):
        return global_mean(jax.nn.relu(depthwise_conv(x, kernel)))

    lowered = jax.jit(mean, compiler_options=inference_options()).lower(
        jnp.zeros((8, 28, 28, 120)), jnp.zeros((5, 5, 1, 120))
    )
    assert " reduce(" not in lowered.compile(THOROUGH).as_text()


@pytest.mark.parametrize(("platform", "products"), [("cpu", 1), ("cuda", 0), ("tpu", 0)])
def test_only_a_cpu_multiplies(platform, products):
    export = jax.export.export(jax.jit(global_mean), platforms=[platform])
    text = export(jax.ShapeDtypeStruct((2, 4, 4, 3), np.float32)).mlir_module()
    assert text.count("stablehlo.dot_general") == products
    assert text.count("stablehlo.reduce") == 1 - products
