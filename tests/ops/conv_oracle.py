"""Checks a convolution and both its gradients against `lax.conv_general_dilated`."""

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from flaxmobile.ops import Padding, Window, make_window

DTYPES = ("bfloat16", "float32", "float64")


class Case(NamedTuple):
    """A convolution of images [batch, *image, channels] with a kernel [*kernel, inputs, outputs].

    `inputs` is channels / groups.
    """

    image: tuple[int, int]
    kernel: tuple[int, int]
    inputs: int
    outputs: int
    channels: int
    strides: int | tuple[int, int] = 1
    padding: Padding = "SAME"
    dilation: int | tuple[int, int] = 1
    batch: int = 2

    def __str__(self) -> str:
        """Name the test: what differs from the defaults."""
        size = "x".join(map(str, (self.batch, *self.image, self.channels)))
        kernel = "x".join(map(str, (*self.kernel, self.inputs, self.outputs)))
        return f"{size}-k{kernel}-s{self.strides}-{self.padding}-d{self.dilation}".replace(" ", "")

    @property
    def window(self) -> Window:
        return make_window(self.image, self.kernel, self.strides, self.padding, self.dilation)

    @property
    def options(self) -> dict[str, Any]:
        return {"strides": self.strides, "padding": self.padding, "dilation": self.dilation}

    def arrays(self, dtype: str = "float32") -> tuple[Array, Array, Array]:
        """Random images, kernel and output gradient."""
        rng = np.random.default_rng(0)  # compiling jax.random.normal in float64 takes a minute

        def normal(*shape: int) -> Array:
            return jnp.asarray(rng.normal(size=shape), dtype)

        x = normal(self.batch, *self.image, self.channels)
        kernel = normal(*self.kernel, self.inputs, self.outputs)
        y = jax.eval_shape(lambda x, kernel: native(self.window, x, kernel), x, kernel)
        return x, kernel, normal(*y.shape)


def native(window: Window, x: Array, kernel: Array) -> Array:
    """XLA's own convolution, written here again so that ours is not checked against itself."""
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=window.strides,
        padding=window.padding,
        rhs_dilation=window.dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[3] // kernel.shape[2],
    )


def with_gradients(
    conv: Callable[[Array, Array], Array], x: Array, kernel: Array, dy: Array
) -> tuple[Array, Array, Array]:
    """The output and the gradients of images and kernel."""
    y, transpose = jax.vjp(conv, x, kernel)
    return y, *transpose(dy)


def check(case: Case, conv: Callable[..., Array], dtype: str, oracle: str = "float64") -> None:
    """Assert that `conv` is right to the rounding of `dtype`, in value and both gradients.

    And in the value that it has where no gradient is asked for.

    The native convolution runs in `oracle`; float64 takes minutes for a real layer, float32 not.

    Rounding errors of a sum of n products in a type of unit roundoff u stay, in any order, below
    4 sqrt(n) u sum|products| but with negligible probability (Higham and Mary 2019, "A new approach
    to probabilistic rounding error analysis", theorem 2.4). Ours and the oracle may both err by
    that; a bfloat16 result is a float32 sum rounded once.
    """
    with jax.enable_x64(True):
        arrays = case.arrays(dtype)
        wide = [array.astype(oracle) for array in arrays]
        expected, magnitude = _exact(case, *wide), _exact(case, *map(jnp.abs, wide))
        actual = jax.jit(conv)(*arrays[:2]), *jax.jit(lambda *a: with_gradients(conv, *a))(*arrays)
        total = jnp.promote_types(dtype, "float32")
    per_group = math.prod(case.kernel) * case.inputs
    terms = (
        per_group,
        per_group,
        per_group * case.outputs // case.channels if case.inputs == 1 else per_group * case.outputs,
        math.prod(arrays[2].shape[:3]),
    )
    for name, got, want, size, n in zip(
        ("value alone", "value", "image gradient", "kernel gradient"),
        actual,
        (expected[0], *expected),
        (magnitude[0], *magnitude),
        terms,
        strict=True,
    ):
        assert got.dtype == jnp.dtype(dtype), name
        assert got.shape == want.shape, name
        bound = 2 * 4 * math.sqrt(n) * _roundoff(total) * np.asarray(size)
        if total != jnp.dtype(dtype):
            bound += _roundoff(dtype) * (np.abs(want) + bound)
        error = np.abs(np.asarray(got, np.float64) - np.asarray(want, np.float64))
        assert (error <= bound).all(), (
            f"{name}: off by up to {error.max()}, size {np.asarray(size).max()}"
        )


@partial(jax.jit, static_argnums=0)
def _exact(case: Case, x: Array, kernel: Array, dy: Array) -> tuple[Array, Array, Array]:
    return with_gradients(lambda x, k: native(case.window, x, k), x, kernel, dy)


def _roundoff(dtype: Any) -> float:
    return float(jnp.finfo(dtype).eps) / 2


def check_specials(case: Case, conv: Callable[..., Array]) -> None:
    """Assert that infinities and NaNs in images and in dy reach what they reach natively."""
    arrays = case.arrays()
    ours = jax.jit(lambda *a: with_gradients(conv, *a))
    for special, spoiled in itertools.product((np.inf, -np.inf, np.nan), (0, 2)):
        inputs = list(arrays)
        inputs[spoiled] = inputs[spoiled].at[0, 2, 2, -1].set(special)
        actual, expected = ours(*inputs), _exact(case, *inputs)
        assert sum(not np.isfinite(array).all() for array in actual) == 2
        for got, want in zip(actual, expected, strict=True):
            for kind in (np.isnan, np.isposinf, np.isneginf):
                np.testing.assert_array_equal(kind(got), kind(want))
