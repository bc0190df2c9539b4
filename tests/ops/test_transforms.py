"""Every op under `jit`, `vmap` and `pmap` against the native convolution, with both gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxmobile.ops import dense_conv, depthwise_conv, pointwise_conv
from tests.ops.conv_oracle import Case, native, with_gradients

CASES = {
    "depthwise": Case((8, 8), (3, 3), 1, 12, 6, strides=2),
    "pointwise": Case((8, 8), (1, 1), 6, 10, 6, padding="VALID"),
    "im2col": Case((9, 9), (3, 3), 3, 8, 3, strides=2, padding="symmetric"),
    "dense": Case((8, 8), (3, 3), 6, 8, 6),
}


SCALE = np.linspace(0.5, 1.5, 8, dtype=np.float32).reshape(8, 1, 1, 1, 1)


def ours(name, x, kernel):
    case = CASES[name]
    if name == "pointwise":
        return pointwise_conv(x, kernel, strides=case.strides)
    conv = depthwise_conv if name == "depthwise" else dense_conv
    return conv(x, kernel, **case.options)


def assert_close(actual, expected):
    """Within float32 rounding: the sums here have at most 128 terms of about 1."""
    for got, want in zip(actual, expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=2e-5)


@pytest.fixture(params=CASES)
def problem(request):
    """An op's name, eight different batches, and what the native convolution makes of them."""
    case = CASES[request.param]
    stacks = [SCALE * array[None] for array in case.arrays()]
    expected = [
        with_gradients(lambda x, k: native(case.window, x, k), *(stack[i] for stack in stacks))
        for i in range(8)
    ]
    return request.param, stacks, [jnp.stack(arrays) for arrays in zip(*expected, strict=True)]


def transposed(name):
    return lambda *arrays: with_gradients(lambda x, kernel: ours(name, x, kernel), *arrays)


def test_jit(problem):
    name, stacks, expected = problem
    actual = jax.jit(transposed(name))(*(stack[3] for stack in stacks))
    assert_close(actual, [e[3] for e in expected])


def test_vmap_over_everything(problem):
    name, stacks, expected = problem
    assert_close(jax.jit(jax.vmap(transposed(name)))(*stacks), expected)


def test_vmap_over_images_alone(problem):
    name, (x, kernel, dy), expected = problem
    actual = jax.jit(jax.vmap(transposed(name), (0, None, 0)))(x, kernel[3], dy)
    y, dx, dkernel = expected
    other = SCALE[3:4] / SCALE  # y and dx are linear in the kernel
    assert_close(actual, (y * other, dx * other, dkernel))


def test_pmap(problem):
    name, stacks, expected = problem
    assert_close(jax.pmap(transposed(name))(*stacks), expected)
