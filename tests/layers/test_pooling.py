"""Pooling against torch's and TensorFlow's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn import functional

from flaxmobile.errors import InputError
from flaxmobile.layers import adaptive_avg_pool, avg_pool, max_pool
from tests.models.parity import from_torch, to_torch


def images(*size, dtype=np.float64):
    """Below zero almost everywhere: a padding of 0 would win."""
    return np.random.default_rng(0).normal(-3, 1, (2, *size, 3)).astype(dtype)


def assert_agrees(ours, theirs, x):
    """Outputs and gradients in float64."""
    given = to_torch(x).requires_grad_()
    expected = theirs(given)
    direction = np.random.default_rng(1).normal(size=from_torch(expected).shape)
    (expected * to_torch(direction)).sum().backward()
    with jax.enable_x64(True):
        found, pull = jax.vjp(jax.jit(ours), jnp.asarray(x))
        (gradient,) = pull(jnp.asarray(direction))
    np.testing.assert_allclose(found, from_torch(expected), rtol=0, atol=1e-12)
    np.testing.assert_allclose(gradient, from_torch(given.grad), rtol=0, atol=1e-12)


def tensorflow_pads(size, kernel, stride):
    """Odd padding goes to the right and bottom."""
    missing = [max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in size]
    return [(lack // 2, lack - lack // 2) for lack in missing]


def pad_like_tensorflow(x, kernel, stride, value):
    rows, columns = tensorflow_pads(x.shape[2:], kernel, stride)
    return functional.pad(x, (*columns, *rows), value=value)


@pytest.mark.parametrize("size", [(8, 9), (13, 6)])
@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 2), (3, 1), (2, 3), (5, 4)])
@pytest.mark.parametrize("padding", ["symmetric", "VALID"])
@pytest.mark.parametrize("ceil_mode", [True, False])
def test_max_pool_is_torchs(size, kernel, stride, padding, ceil_mode):
    pad = (kernel - 1) // 2 if padding == "symmetric" else 0
    assert_agrees(
        lambda x: max_pool(x, kernel, stride, padding, ceil_mode),
        lambda x: functional.max_pool2d(x, kernel, stride, pad, ceil_mode=ceil_mode),
        images(*size),
    )


def test_in_ceil_mode_an_image_may_be_smaller_than_the_window():
    x = images(2, 5)
    assert_agrees(
        lambda x: max_pool(x, 3, 2, "VALID", ceil_mode=True),
        lambda x: functional.max_pool2d(x, 3, 2, ceil_mode=True),
        x,
    )
    with pytest.raises(InputError, match="smaller than a kernel of 3 x 3"):
        max_pool(jnp.asarray(x), 3, 2, "VALID")
    with pytest.raises(InputError, match="smaller than a kernel of 3 x 3"):
        max_pool(jnp.asarray(x[:, :1]), 3, 2, "VALID", ceil_mode=True)


@pytest.mark.parametrize("size", [(8, 9), (2, 7)])
@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 2), (3, 1), (5, 3)])
def test_same_padding_is_tensorflows(size, kernel, stride):
    x = images(*size)
    assert_agrees(
        lambda x: max_pool(x, kernel, stride, "SAME"),
        lambda x: functional.max_pool2d(
            pad_like_tensorflow(x, kernel, stride, -torch.inf), kernel, stride
        ),
        x,
    )

    def mean(x):
        total, count = (
            functional.avg_pool2d(pad_like_tensorflow(part, kernel, stride, 0), kernel, stride)
            for part in (x, torch.ones_like(x))
        )
        return total / count

    assert_agrees(lambda x: avg_pool(x, kernel, stride, "SAME", count_padding=False), mean, x)


@pytest.mark.parametrize("size", [(8, 9), (13, 6)])
@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 2), (3, 1), (5, 3)])
@pytest.mark.parametrize("padding", ["symmetric", "VALID"])
@pytest.mark.parametrize("count_padding", [True, False])
def test_avg_pool_is_torchs(size, kernel, stride, padding, count_padding):
    pad = (kernel - 1) // 2 if padding == "symmetric" else 0
    assert_agrees(
        lambda x: avg_pool(x, kernel, stride, padding, count_padding=count_padding),
        lambda x: functional.avg_pool2d(x, kernel, stride, pad, count_include_pad=count_padding),
        images(*size),
    )


@pytest.mark.parametrize("dilation", [2, 3])
@pytest.mark.parametrize("count_padding", [True, False])
def test_dilated_avg_pool_is_a_dilated_convolution_with_equal_weights(dilation, count_padding):
    weights = torch.full((3, 1, 3, 3), 1 / 9, dtype=torch.float64)

    def mean(x):
        total, count = (
            functional.conv2d(part, weights, None, 1, dilation, dilation, groups=3)
            for part in (x, torch.ones_like(x))
        )
        return total if count_padding else total / count

    assert_agrees(
        lambda x: avg_pool(x, 3, dilation=dilation, count_padding=count_padding),
        mean,
        images(8, 9),
    )


@pytest.mark.parametrize("size", [(14, 14), (4, 4), (8, 9), (3, 17), (2, 1)])
@pytest.mark.parametrize("bins", [4, 5])
def test_adaptive_avg_pool_is_torchs(size, bins):
    assert_agrees(
        lambda x: adaptive_avg_pool(x, bins),
        lambda x: functional.adaptive_avg_pool2d(x, bins),
        images(*size),
    )


@pytest.mark.parametrize(
    "pool", [lambda x: avg_pool(x, 16, 16, "VALID"), lambda x: adaptive_avg_pool(x, 1)]
)
def test_means_of_bfloat16_are_summed_in_float32(pool):
    x = jnp.asarray(np.random.default_rng(0).uniform(1, 2, (2, 16, 16, 3)), jnp.bfloat16)
    found = pool(x)
    assert found.dtype == jnp.bfloat16
    expected = np.asarray(x, np.float64).mean((1, 2), keepdims=True)
    np.testing.assert_array_equal(found, expected.astype(np.float32).astype(jnp.bfloat16))


def test_the_largest_of_bfloat16_is_taken_as_it_is():
    x = jnp.asarray(images(8, 9), jnp.bfloat16)
    found = max_pool(x, 3, 2)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_array_equal(
        np.asarray(found, np.float32), max_pool(x.astype(jnp.float32), 3, 2)
    )


def test_an_unknown_padding_says_what_is_accepted():
    with pytest.raises(InputError, match="unknown padding 'valid'; accepted: 'symmetric', 'SAME'"):
        avg_pool(jnp.zeros((1, 8, 8, 3)), 3, padding="valid")
