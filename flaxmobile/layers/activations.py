"""Activations with the reference implementations' gradients."""

from collections.abc import Callable, Mapping
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

Activation = Callable[[Array], Array]

relu = jax.nn.relu


def relu6(x: Array) -> Array:
    """min(max(x, 0), 6), with gradient 0 at 0 and at 6 as in PyTorch and TensorFlow.

    `jax.nn.relu6` passes half of the gradient at 0 and at 6.
    """
    zero, six = (lax.full_like(x, bound, shape=()) for bound in (0, 6))
    return lax.clamp(zero, x, six)


def is_clamp(activation: Activation) -> bool:
    """Tell whether an activation is a clamp, which integers implement by saturating."""
    return activation in (relu, relu6)


def hard_sigmoid(x: Array) -> Array:
    """relu6(x + 3) / 6: MobileNet V3's gate (Howard et al. 2019, section 5.2)."""
    return relu6(x + 3) * (1 / 6)


def hard_swish(x: Array) -> Array:
    """Input times `hard_sigmoid`: MobileNet V3's activation (Howard et al. 2019, section 5.2)."""
    return x * hard_sigmoid(x)


ACTIVATIONS: Mapping[str, Activation] = {
    "linear": lambda x: x,
    "relu": relu,
    "relu6": relu6,
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "elu": jax.nn.elu,
    "selu": jax.nn.selu,
    "gelu": partial(jax.nn.gelu, approximate=False),
    "swish": jax.nn.silu,
    "silu": jax.nn.silu,
}
"""Keras's names of activations, which PyTorch's mostly are too -> the function."""
