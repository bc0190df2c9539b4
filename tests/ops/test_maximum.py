"""The largest value under a window: values, where the gradient goes, and the forms of platforms."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from flaxmobile.compiler import inference_options
from flaxmobile.ops import make_window, window_max
from tests.xla import THOROUGH

SIZES = {  # those of the networks' pools, and others
    "ShuffleNet V2": ((112, 112, 24), 3, 2, "symmetric"),
    "Inception v3": ((35, 35, 288), 3, 2, "VALID"),
    "Inception v2": ((28, 28, 320), 3, 2, "SAME"),
    "Inception v1, unit": ((14, 14, 512), 3, 1, "symmetric"),
    "BlazeFace": ((64, 64, 24), 2, 2, "SAME"),
    "padding on one side": ((7, 10, 64), 5, 3, ((4, 0), (0, 2))),
    "windows beyond the image": ((6, 5, 64), 3, 2, ((4, 0), (1, 5))),
    "pixels that no window reads": ((11, 8, 64), 2, 4, "VALID"),
}


def plain(size, window, x):
    return nn.max_pool(x, size, window.strides, window.padding)


def problem(name, dtype=np.float64):
    """Arguments of `window_max`; most windows hold several equal values, as after a ReLU."""
    shape, side, stride, padding = SIZES[name]
    rng = np.random.default_rng(0)
    x = jnp.asarray(np.maximum(rng.integers(-2, 3, (2, *shape)), 0), dtype)
    return (side, side), make_window(shape[:2], (side, side), stride, padding), x


def with_gradient(function, x):
    y, pull = jax.vjp(function, x)
    dy = np.random.default_rng(1).normal(size=y.shape)
    return y, pull(jnp.asarray(dy, y.dtype))[0]


@pytest.mark.parametrize("name", SIZES)
def test_values_and_gradients_are_those_of_the_native_form(name):
    with jax.enable_x64(True):
        size, window, x = problem(name)
        found = with_gradient(jax.jit(partial(window_max, size, window)), x)
        expected = with_gradient(jax.jit(partial(plain, size, window)), x)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", [None, inference_options()], ids=["plain", "inference"])
@pytest.mark.parametrize("name", SIZES)
def test_without_a_gradient_values_are_those_of_the_native_form(name, options):
    size, window, x = problem(name, np.float32)
    found = jax.jit(partial(window_max, size, window), compiler_options=options)(x - 2)
    np.testing.assert_array_equal(found, plain(size, window, x - 2))


def test_inference_reads_a_biased_product_where_it_is():
    """Only the product and the result are materialized: no padded map, no pixels of a tap."""
    size, window, x = problem("Inception v2", np.float32)
    kernel = jnp.ones((x.shape[-1], 64), x.dtype)

    def pooled(x, bias):
        y = window_max(size, window, x @ kernel + bias[None, None, None])
        return jnp.abs(y), jnp.exp(y)

    lowered = jax.jit(pooled, compiler_options=inference_options()).lower(x, kernel[0])
    product, results = x.nbytes // x.shape[-1] * 64, x.nbytes // x.shape[-1] * 16
    assert lowered.compile(THOROUGH).memory_analysis().temp_size_in_bytes < 1.1 * (
        product + results
    )


def test_gradients_of_bfloat16_are_summed_in_float32():
    size, window, x = problem("Inception v1, unit", jnp.bfloat16)
    _, found = with_gradient(partial(window_max, size, window), x)
    _, expected = with_gradient(partial(window_max, size, window), x.astype(jnp.float32))
    assert found.dtype == jnp.bfloat16
    # The float32 run's dy is not rounded to bfloat16: up to 9 of them meet in a pixel.
    np.testing.assert_allclose(found.astype(jnp.float32), expected, rtol=2**-7, atol=2**-4)


def test_vmap():
    size, window, x = problem("BlazeFace", np.float32)
    found = jax.vmap(lambda x: with_gradient(partial(window_max, size, window), x[None])[1])(x)
    for image, gradient in zip(x, found, strict=True):
        _, expected = with_gradient(partial(plain, size, window), image[None])
        np.testing.assert_allclose(gradient, expected, atol=1e-6)


@pytest.mark.parametrize(("platform", "native"), [("cpu", 0), ("cuda", 1), ("tpu", 1)])
def test_only_a_cpu_slices_and_gathers(platform, native):
    size, window, x = problem("BlazeFace", np.float32)
    step = jax.jit(lambda x: with_gradient(partial(window_max, size, window), x))
    text = jax.export.export(step, platforms=[platform])(x).mlir_module()
    for operation in ("reduce_window", "select_and_scatter"):
        assert len(re.findall(rf'"stablehlo\.{operation}"', text)) == native, operation


def test_the_gradient_takes_little_memory():
    """Measured: 1.3 times the image; the native form, with positions and a scatter, 7.2 times."""
    size, window, x = problem("ShuffleNet V2", np.float32)
    compiled = jax.jit(lambda x: with_gradient(partial(window_max, size, window), x)).lower(x)
    assert compiled.compile(THOROUGH).memory_analysis().temp_size_in_bytes < 1.5 * x.nbytes
