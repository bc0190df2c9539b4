"""Fake quantization: a float network that computes with the numbers of its int8 model.

Every activation that the file stores is rounded to the steps of a range (`quantize`), every kernel
to those of its output channels (`kernel_steps`), every bias to the products of the two
(`quantize_bias`). Gradients pass straight through the rounding, and not where a number lies outside
its range (Jacob et al. 2018, arXiv:1712.05877, section 3).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array, lax

from flaxmobile.compat import is_constant
from flaxmobile.layers.activations import Activation, is_clamp
from flaxmobile.layers.parameters import parameter

LEAST, MOST = -128, 127
"""Integers of an activation. Kernels leave out the least, so that 0 is in the middle, unless their
steps are given."""
FAKE_QUANT = "quant.fake_quant"
"""Name of the composite operation that LiteRT's converter turns into integers."""
_SMALLEST = 1e-9
"""Smallest width of a range: one that has seen nothing but 0 has steps too."""


class _Mode(NamedTuple):
    """How the network that is being traced rounds.

    Attributes:
      updates: take the range of each activation from the batch, and update the running one.
      momentum: weight of the old range in an update.
      marks: round by an operation that converters turn into integers; needs constant variables.
      shared: path of a module -> the least and the most of its range and of all ranges that the
        file has as one.
      given_steps: the steps of kernels are among the running statistics.
    """

    updates: bool
    momentum: float
    marks: bool
    shared: Mapping[tuple[str, ...], tuple[Any, Any]]
    given_steps: bool


class _State(NamedTuple):
    """The mode, and the activations that were rounded, with their steps, by identity."""

    mode: _Mode
    rounded: dict[int, tuple[Array, "Steps"]]

    def remember(self, x: Array, steps: "Steps") -> Array:
        self.rounded[id(x)] = x, steps  # the array lives on, so that its identity is its own
        return x

    def steps_of(self, x: Array) -> "Steps | None":
        _, steps = self.rounded.get(id(x), (x, None))
        return steps


_state: ContextVar[_State | None] = ContextVar("quantizing", default=None)


@contextmanager
def quantizing(
    *,
    updates: bool,
    momentum: float,
    marks: bool,
    shared: Mapping[tuple[str, ...], tuple[Any, Any]] | None = None,
    given_steps: bool = False,
) -> Iterator[None]:
    """Round activations and kernels in the layers that are called inside, see `_Mode`."""
    mode = _Mode(updates, momentum, marks, shared or {}, given_steps)
    token = _state.set(_State(mode, {}))
    try:
        yield
    finally:
        _state.reset(token)


def quantize(x: Array, name: str = "range") -> Array:
    """Round an activation to the 256 levels of its range, where the network is quantized.

    Call it inside a compact method: the range is a submodule of this name.
    """
    state = _state.get()
    if state is None:
        return x
    return state.remember(*Range(state.mode, name=name)(x))


def activate(activation: Activation | None, x: Array, name: str = "range") -> Array:
    """Apply an activation to a layer's output, and round what the int8 model stores of the two.

    A clamp is part of the layer before it; other activations read integers themselves.
    """
    if activation is None:
        return quantize(x, name)
    if not is_clamp(activation):
        x = quantize(x, f"linear_{name}")
    return quantize(activation(x), name)


def keep_steps(x: Array, source: Array) -> Array:
    """Mark x, whose values all come from source (as in max pooling), as rounded with its scale."""
    state = _state.get()
    steps = state and state.steps_of(source)
    return state.remember(x, steps) if state and steps else x


def join_ranges(
    groups: Sequence[Sequence[str]], statistics: Mapping[str, Any]
) -> dict[tuple[str, ...], tuple[Any, Any]]:
    """Return the range of each block's output and of those in its group, by path in the network.

    Args:
      groups: of blocks whose outputs have one range in the int8 model, because it passes their
        integers from one to the next unchanged.
      statistics: the network's "batch_stats".
    """
    joined: dict[tuple[str, ...], tuple[Any, Any]] = {}
    for group in groups:
        ranges = [statistics[name]["range"] for name in group if name in statistics]
        if not ranges:
            continue
        xp = np if all(is_constant(each["least"]) for each in ranges) else jnp
        least = xp.min(xp.stack([xp.asarray(each["least"]) for each in ranges]))
        most = xp.max(xp.stack([xp.asarray(each["most"]) for each in ranges]))
        joined |= {(name, "range"): (least, most) for name in group}
    return joined


def quantize_bias(bias: Any, x: Array, kernel_steps: Any) -> Any:
    """Round a bias [features] to the steps of x times the given ones [features] of the kernel.

    The int8 model adds it to the integer products of the two. It stays as it is where the network
    is not quantized, where x is not rounded (behind dropout), and where a converter rounds it.
    """
    state = _state.get()
    steps = state and state.steps_of(x)
    if not state or not steps or (state.mode.marks and is_constant(bias)):
        return bias
    step = steps.scale * kernel_steps
    return bias + lax.stop_gradient(jnp.round(bias / step) * step - bias)


def kernel_steps(layer: nn.Module, kernel: Any) -> Any:
    """Return the steps [features] of a layer's kernel [..., features].

    They are symmetric about 0 and reach to the feature's largest magnitude, which 127 of them
    make, unless they are given: then they are the layer's "kernel_steps" among the running
    statistics. None where the network is not quantized.
    """
    state = _state.get()
    if state is None:
        return None
    if state.mode.given_steps:
        shape = kernel.shape[-1:]
        given = layer.variable("batch_stats", "kernel_steps", jnp.ones, shape, jnp.float32).value
        return np.asarray(given) if is_constant(given) else given
    axes = tuple(range(kernel.ndim - 1))
    if is_constant(kernel):  # and so are the steps, as a converter needs them
        return np.maximum(np.abs(np.asarray(kernel)).max(axes), _SMALLEST) / MOST
    largest = jnp.abs(lax.stop_gradient(kernel)).max(axes)
    return jnp.maximum(largest, _SMALLEST) / MOST


def quantize_kernel(kernel: Any, steps: Any) -> Any:
    """Round a kernel [..., features] to its steps [features], where the network is quantized."""
    state = _state.get()
    if state is None:
        return kernel
    least = LEAST if state.mode.given_steps else LEAST + 1
    scale = steps.reshape(*(1,) * (kernel.ndim - 1), -1)
    if state.mode.marks and is_constant(kernel):
        zeros = np.zeros(scale.shape)
        last = kernel.ndim - 1
        return _mark(jnp.asarray(kernel), Steps(scale, zeros), least, quantization_dimension=last)
    return _round(kernel, Steps(scale, 0), least)


class Steps(NamedTuple):
    """A number is (integer - zero) · scale."""

    scale: Any
    zero: Any


class Range(nn.Module):
    """The range of an activation, which is rounded to 256 levels of it; 0 is one of them.

    As in normalization, training takes the range of the batch, and inference the running average,
    which is part of the running statistics: "batch_stats".
    """

    mode: _Mode

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Steps]:
        """Round x of any shape, and return the steps."""
        least, most = (
            self.variable("batch_stats", name, jnp.zeros, (), jnp.float32)
            for name in ("least", "most")
        )
        shared = self.mode.shared.get(self.path)
        if self.mode.updates and not self.is_initializing():
            seen = lax.stop_gradient(x).astype(jnp.float32)
            low, high = jnp.minimum(seen.min(), 0), jnp.maximum(seen.max(), 0)
            momentum = self.mode.momentum
            least.value = momentum * least.value + (1 - momentum) * low
            most.value = momentum * most.value + (1 - momentum) * high
            if shared is not None:
                low, high = jnp.minimum(low, shared[0]), jnp.maximum(high, shared[1])
            steps = _steps_of(low, high)
            return _round(x, steps, LEAST), steps
        ends = (least.value, most.value) if shared is None else shared
        if self.mode.marks and is_constant(ends[0]):
            steps = _steps_of(*map(np.asarray, ends))
            return _mark(x, steps, LEAST), steps
        steps = _steps_of(*ends)
        return (x if self.is_initializing() else _round(x, steps, LEAST)), steps


class Dense(nn.Dense):
    """`flax.linen.Dense` whose kernel and bias are rounded where the network is quantized."""

    @nn.compact
    def __call__(self, inputs: Array) -> Array:
        """Map [n, c] to [n, features]."""
        shape = inputs.shape[-1], self.features
        kernel = parameter(self, "kernel", self.kernel_init, shape, self.param_dtype)
        steps = kernel_steps(self, kernel)
        rounded = jnp.asarray(quantize_kernel(kernel, steps), self.dtype)
        y = jnp.asarray(inputs, self.dtype) @ rounded
        if self.use_bias:
            bias = parameter(self, "bias", self.bias_init, (self.features,), self.param_dtype)
            bias = quantize_bias(bias, inputs, steps)
            y += jnp.asarray(bias, self.dtype).reshape(1, -1)
        return y


def _steps_of(least: Any, most: Any) -> Steps:
    """Compute scale and zero point of a range that includes 0, for 256 levels."""
    xp = np if isinstance(least, np.ndarray) else jnp
    scale = xp.maximum(most - least, _SMALLEST) / (MOST - LEAST)
    return Steps(scale, xp.clip(xp.round(LEAST - least / scale), LEAST, MOST))


def _round(x: Array, steps: Steps, least: int) -> Array:
    scale, zero = steps
    inside = jnp.clip(x, (least - zero) * scale, (MOST - zero) * scale)
    integers = jnp.clip(jnp.round(x / scale) + zero, least, MOST)
    return inside + lax.stop_gradient((integers - zero) * scale - inside)


def _mark(x: Array, steps: Steps, least: int, **axis: int) -> Array:
    """Round by a composite operation, which converters turn into integers."""
    numbers = Steps(*(np.asarray(value, np.float32) for value in steps))

    def fake_quant(x: Array, **_: Any) -> Array:
        return _round(x, numbers, least)

    rounded: Array = lax.composite(fake_quant, name=FAKE_QUANT)(
        x,
        dtype="i8",
        narrow_range=least > LEAST,
        scale=steps.scale.ravel().astype(np.float64),
        zero_point=steps.zero.ravel().astype(np.int64),
        **{name: np.int32(number) for name, number in axis.items()},
    )
    return rounded
