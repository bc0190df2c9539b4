"""Fake quantization: a float network that computes with the numbers of its int8 file.

Every activation that the file stores is rounded to the steps of a range (`quantize`), every kernel
to those of its output channels (`quantize_kernel`). Gradients pass straight through the rounding,
and not where a number lies outside its range (Jacob et al. 2018, arXiv:1712.05877, section 3).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array, lax

from flaxmobile.compat import is_constant
from flaxmobile.layers.activations import Activation, is_clamp

LEAST, MOST = -128, 127
"""Integers of an activation. Kernels leave out the least, so that 0 is in the middle."""
_SMALLEST = 1e-9
"""Smallest width of a range: one that has seen nothing but 0 has steps too."""


class _Mode(NamedTuple):
    """How the network that is being traced rounds.

    Attributes:
      updates: take the range of each activation from the batch, and update the running one.
      momentum: weight of the old range in an update.
      marks: round by an operation that converters turn into integers; needs constant variables.
    """

    updates: bool
    momentum: float
    marks: bool


_mode: ContextVar[_Mode | None] = ContextVar("quantizing", default=None)


@contextmanager
def quantizing(*, updates: bool, momentum: float, marks: bool) -> Iterator[None]:
    """Round activations and kernels in the layers that are called inside, see `_Mode`."""
    token = _mode.set(_Mode(updates, momentum, marks))
    try:
        yield
    finally:
        _mode.reset(token)


def quantize(x: Array, name: str = "range") -> Array:
    """Round an activation to the 256 steps of its range, where the network is quantized.

    Call it inside a compact method: the range is a submodule of this name.
    """
    mode = _mode.get()
    return x if mode is None else Range(mode, name=name)(x)


def activate(activation: Activation | None, x: Array, name: str = "range") -> Array:
    """Apply an activation to a layer's output, and round what an int8 file stores of the two.

    A clamp is part of the layer before it; other activations read integers themselves.
    """
    if activation is None:
        return quantize(x, name)
    if not is_clamp(activation):
        x = quantize(x, f"linear_{name}")
    return quantize(activation(x), name)


def quantize_kernel(kernel: Any) -> Any:
    """Round a kernel [..., features] to 255 steps for each feature, where the network is quantized.

    The steps are symmetric about 0 and reach to the feature's largest magnitude.
    """
    mode = _mode.get()
    if mode is None:
        return kernel
    axes = tuple(range(kernel.ndim - 1))
    if mode.marks and is_constant(kernel):
        largest = np.abs(np.asarray(kernel)).max(axes, keepdims=True)
        steps = Steps(np.maximum(largest, _SMALLEST) / MOST, np.zeros(largest.shape))
        return _mark(jnp.asarray(kernel), steps, LEAST + 1, quantization_dimension=len(axes))
    largest = jnp.abs(lax.stop_gradient(kernel)).max(axes, keepdims=True)
    return _round(kernel, Steps(jnp.maximum(largest, _SMALLEST) / MOST, 0), LEAST + 1)


class Steps(NamedTuple):
    """A number is (integer - zero) · scale."""

    scale: Any
    zero: Any


class Range(nn.Module):
    """The range of an activation, which is rounded to 256 steps of it; 0 is one of them.

    As in normalization, training takes the range of the batch, and inference the running average,
    which is part of the running statistics: "batch_stats".
    """

    mode: _Mode

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Round x of any shape."""
        least, most = (
            self.variable("batch_stats", name, jnp.zeros, (), jnp.float32)
            for name in ("least", "most")
        )
        if self.is_initializing():
            return x
        if self.mode.updates:
            seen = lax.stop_gradient(x).astype(jnp.float32)
            low, high = jnp.minimum(seen.min(), 0), jnp.maximum(seen.max(), 0)
            momentum = self.mode.momentum
            least.value = momentum * least.value + (1 - momentum) * low
            most.value = momentum * most.value + (1 - momentum) * high
            return _round(x, _steps_of(low, high), LEAST)
        if self.mode.marks and is_constant(least.value):
            return _mark(x, _steps_of(*(np.asarray(v.value) for v in (least, most))), LEAST)
        return _round(x, _steps_of(least.value, most.value), LEAST)


class Dense(nn.Dense):
    """`flax.linen.Dense` whose kernel is rounded where the network is quantized."""

    def param(self, name: str, *args: Any, **options: Any) -> Any:
        """Return a parameter as the layer computes with it."""
        value = super().param(name, *args, **options)
        return quantize_kernel(value) if name == "kernel" else value


def _steps_of(least: Any, most: Any) -> Steps:
    """Divide a range that includes 0 into 255 steps."""
    xp = np if isinstance(least, np.ndarray) else jnp
    scale = xp.maximum(most - least, _SMALLEST) / (MOST - LEAST)
    return Steps(scale, xp.clip(xp.round(LEAST - least / scale), LEAST, MOST))


def _round(x: Array, steps: Steps, least: int) -> Array:
    scale, zero = steps
    inside = jnp.clip(x, (least - zero) * scale, (MOST - zero) * scale)
    integers = jnp.clip(jnp.round(x / scale) + zero, least, MOST)
    return inside + lax.stop_gradient((integers - zero) * scale - inside)


def _mark(x: Array, steps: Steps, least: int, **axis: int) -> Array:
    """Round by the composite operation that LiteRT's converter turns into integers."""
    numbers = Steps(*(np.asarray(value, np.float32) for value in steps))

    def fake_quant(x: Array, **_: Any) -> Array:
        return _round(x, numbers, least)

    rounded: Array = lax.composite(fake_quant, name="quant.fake_quant")(
        x,
        dtype="i8",
        narrow_range=least > LEAST,
        scale=steps.scale.ravel().astype(np.float64),
        zero_point=steps.zero.ravel().astype(np.int64),
        **{name: np.int32(number) for name, number in axis.items()},
    )
    return rounded
