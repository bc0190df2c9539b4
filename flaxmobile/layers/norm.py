"""Batch normalization with the reference implementations' running statistics."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax

from flaxmobile.ops import Window, pointwise_conv
from flaxmobile.ops.dispatch import native
from flaxmobile.ops.pointwise import matmul
from flaxmobile.ops.scale import scale_and_shift, sums

Scale = Callable[[Array, Array, Array], Array]
"""(x [..., c], factor [c], offset [c]) -> x scaled and shifted."""

Sums = Callable[[Array], tuple[Array, Array]]
"""x [..., c] -> the sums of x and of its square, each [c]."""

_EACH_PIXEL = Window((1, 1), ((0, 0), (0, 0)), (1, 1))


class BatchNorm(nn.Module):
    """Normalize each channel over the batch (Ioffe and Szegedy 2015, algorithms 1 and 2).

    Differs from `flax.linen.BatchNorm` in the running variance, which takes the unbiased estimate
    (n - 1 in the denominator) as PyTorch and TensorFlow's fused kernel do; the batch itself is
    normalized with the biased one, everywhere.

    Statistics are over the whole array: global under `jax.jit` with a sharded batch. Under
    `jax.pmap` give `axis_name` to average them over the devices.

    Attributes:
      momentum: the share of the old statistics kept at each step (PyTorch's momentum is 1 - this).
      epsilon: added to the variance.
      dtype: type of the output; statistics are in float32 or wider.
      axis_name: the `pmap` axis to average over.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, x: Array, use_running_average: bool = True, kernel: Array | None = None
    ) -> Array:
        """Normalize x [..., c], or the linear map x · kernel.

        Args:
          x: images [n, h, w, c], or any [..., c]; with a kernel in `dtype`.
          use_running_average: use the statistics that there are; else those of the batch, which
            the running ones are then moved towards.
          kernel: [1, 1, c, d], of a 1×1 convolution of images that is to come first. On a CPU it
            costs less here than before: see `_moments_of_product`.

        Returns:
          x's shape, or [n, h, w, d], in `dtype`.
        """
        shape = ((x if kernel is None else kernel).shape[-1],)
        scale = self.param("scale", nn.initializers.ones, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, shape, jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        if use_running_average:
            x = x if kernel is None else pointwise_conv(x, kernel.astype(x.dtype))
            return self._normalize(x, scale, bias, running_mean.value, running_var.value)
        if kernel is None:
            rule = Rule(self.epsilon, self.dtype, self._axis_name)
            y, mean, var = normalize(rule, x, scale, bias)
        else:
            y, mean, var = lax.platform_dependent(
                x,
                kernel,
                scale,
                bias,
                cpu=self._normalize_inside_product,
                default=self._normalize_after_product,
            )
        if not self.is_initializing():
            samples = _samples(x, self._axis_name)
            unbiased = var * (samples / max(samples - 1, 1))
            running_mean.value = self._update(running_mean.value, mean)
            running_var.value = self._update(running_var.value, unbiased)
        return y

    @property
    def _axis_name(self) -> str | None:
        return None if self.is_initializing() else self.axis_name

    def _normalize(self, x: Array, *scale_bias_mean_var: Array) -> Array:
        factor, offset = _coefficients(self.epsilon, *scale_bias_mean_var)
        return _plain_scale(x, factor, offset).astype(self.dtype)

    def _normalize_after_product(
        self, x: Array, kernel: Array, scale: Array, bias: Array
    ) -> tuple[Array, Array, Array]:
        """(y, mean, var): TPU and GPU compute the statistics as the product is written."""
        x = native(_EACH_PIXEL, x, kernel.astype(x.dtype))
        mean, var = _moments(x, self._axis_name, _plain_sums)
        return self._normalize(x, scale, bias, mean, var), mean, var

    def _normalize_inside_product(
        self, x: Array, kernel: Array, scale: Array, bias: Array
    ) -> tuple[Array, Array, Array]:
        """(y, mean, var): the statistics are known beforehand, and go into the kernel."""
        mean, var = _moments_of_product(x, kernel, self._axis_name)
        factor, offset = _coefficients(self.epsilon, scale, bias, mean, var)
        y = matmul(_EACH_PIXEL, x, (kernel * factor[None, None, None]).astype(x.dtype))
        return y + offset.astype(y.dtype)[None, None, None], mean, var

    def _update(self, old: Array, new: Array) -> Array:
        return self.momentum * old + (1 - self.momentum) * lax.stop_gradient(new).astype(old.dtype)


class Rule(NamedTuple):
    """How `normalize` works: see `BatchNorm`."""

    epsilon: float
    dtype: Any
    axis_name: str | None


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def normalize(rule: Rule, x: Array, scale: Array, bias: Array) -> tuple[Array, Array, Array]:
    """Normalize x [..., c] over the batch.

    The gradient is that of the output alone, in the form of the platform it is lowered for.

    Returns:
      x normalized, and the mean and biased variance of each channel.
    """
    return _on_platform(_normalize, rule, x, scale, bias)


def _forward(rule: Rule, *inputs: Array) -> tuple[tuple[Array, Array, Array], tuple[Array, ...]]:
    return normalize(rule, *inputs), inputs


def _backward(
    rule: Rule, inputs: tuple[Array, ...], gradients: tuple[Array, Array, Array]
) -> tuple[Array, Array, Array]:
    return _on_platform(_gradients, rule, *inputs, gradients[0])


normalize.defvjp(_forward, _backward)


@partial(jax.jit, static_argnums=(0, 1))  # so that maps of the same shape are traced once
def _on_platform(function: Callable[..., Any], rule: Rule, *arrays: Array) -> Any:
    """Call a function with the forms of `ops.scale` on a CPU, and with plain ones elsewhere."""
    return lax.platform_dependent(
        *arrays,
        cpu=partial(function, rule, scale_and_shift, lambda x: sums(x, x)),
        default=partial(function, rule, _plain_scale, _plain_sums),
    )


def _normalize(
    rule: Rule, scale_form: Scale, sums_form: Sums, x: Array, scale: Array, bias: Array
) -> tuple[Array, Array, Array]:
    mean, var = _moments(x, rule.axis_name, sums_form)
    factor, offset = _coefficients(rule.epsilon, scale, bias, mean, var)
    return scale_form(x, factor, offset).astype(rule.dtype), mean, var


def _gradients(
    rule: Rule, scale_form: Scale, sums_form: Sums, x: Array, scale: Array, bias: Array, dy: Array
) -> tuple[Array, Array, Array]:
    def normalized(*inputs: Array) -> Array:
        return _normalize(rule, scale_form, sums_form, *inputs)[0]

    return jax.vjp(normalized, x, scale, bias)[1](dy)


def _coefficients(
    epsilon: float, scale: Array, bias: Array, mean: Array, var: Array
) -> tuple[Array, Array]:
    """What to multiply by and what to add, each [c]."""
    factor = scale * lax.rsqrt(var + epsilon)
    return factor, bias - mean * factor


def _plain_scale(x: Array, factor: Array, offset: Array) -> Array:
    lead = (1,) * (x.ndim - 1)
    wide = jnp.promote_types(x.dtype, jnp.float32)
    return x.astype(wide) * factor.reshape(*lead, -1) + offset.reshape(*lead, -1)


def _plain_sums(x: Array) -> tuple[Array, Array]:
    axes = tuple(range(x.ndim - 1))
    return x.sum(axes), jnp.square(x).sum(axes)


def _moments(x: Array, axis_name: str | None, sums_form: Sums) -> tuple[Array, Array]:
    """Mean and biased variance of each channel of x [..., c]."""
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    pixels = x.size // x.shape[-1]
    mean, square = _mean(tuple(total / pixels for total in sums_form(x)), axis_name)
    # The difference of two roundings may fall below zero, and its root would be NaN (flax#1491).
    return mean, jnp.maximum(square - jnp.square(mean), 0)


def _moments_of_product(x: Array, kernel: Array, axis_name: str | None) -> tuple[Array, Array]:
    """Mean and biased variance of each channel of x · kernel, without computing it.

    The mean of x · w is mean(x) · w and its variance is wᵀ cov(x) w. Where the product is wider
    than x, as in the expansion of an inverted residual, that spares a pass over the widest maps of
    the network, and three more in the backward pass, in which the gradient through the statistics
    is one of x as well.
    """
    wide = jnp.promote_types(x.dtype, jnp.float32)
    columns = kernel.astype(wide).reshape(kernel.shape[-2:])
    pixels = tuple(range(x.ndim - 1))
    exact: dict[str, Any] = {"precision": lax.Precision.HIGHEST, "preferred_element_type": wide}
    squares = lax.dot_general(x, x, ((pixels, pixels), ((), ())), **exact)
    means = x.mean(pixels, wide), squares / (x.size // x.shape[-1])
    mean, covariance = _mean(means, axis_name)  # the covariance about zero
    product_mean = jnp.matmul(mean, columns, **exact)
    square = (columns * jnp.matmul(covariance, columns, **exact)).sum(0)
    return product_mean, jnp.maximum(square - jnp.square(product_mean), 0)


def _mean(values: Any, axis_name: str | None) -> Any:
    return values if axis_name is None else lax.pmean(values, axis_name)


def _samples(x: Array, axis_name: str | None) -> int:
    return x.size // x.shape[-1] * (1 if axis_name is None else lax.axis_size(axis_name))
