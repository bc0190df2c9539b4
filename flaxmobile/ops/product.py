"""The matrix products of a CPU's 1×1 convolutions and stems."""

from collections.abc import Iterator, Sequence
from functools import reduce

import jax
import jax.numpy as jnp
from jax import Array, export, lax

from flaxmobile.ops.materialize import make_opaque

_MOST_COLUMNS, _VECTOR = 32, 8
"""So few columns, and whole vectors of features, suit `sum_of_columns`."""

_TERMS = 4
"""Terms of a partial sum. With all in one MobileNetV2's expansions take 1.2 times as long; with 8
they take as long, but MobileNeXt's logits in float32 err by 6e-5, with 4 by 3e-5 as Eigen's do."""

_FEW_PIXELS, _LARGE_KERNEL = 64, 2**16
"""A product of 7 × 7 pixels with such a kernel is divided: see `divided_product`."""


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
    return dx, make_opaque(dy.T @ x).T


product.defvjp(_forward, _backward)


def suits_sum(columns: int, features: int) -> bool:
    """Whether `sum_of_columns` is the faster product.

    With ShuffleNetV2's 58 features it takes up to twice as long as Eigen's.
    """
    return columns <= _MOST_COLUMNS and features % _VECTOR == 0


def sum_of_columns(columns: Sequence[Array], kernel: Array) -> Array:
    """Multiply few columns by a kernel in a loop of XLA's own; not for training.

    Bias, activation and padding become part of the loop, where they are passes of their own behind
    Eigen's product, which for 16 columns spends as long on packing as on computing. On maps of 112
    × 112 pixels the product and these passes take 1.5 to 2.8 times as long. In training the loop
    would be computed again by each operation that uses its result.

    Args:
      columns: k maps [n, h, w, 1].
      kernel: [k, d].

    Returns:
      [n, h, w, d], of columns · kernel.
    """
    weights = lax.split(kernel[:, None, None, None], [1] * len(kernel))

    def partial_sums() -> Iterator[Array]:
        for first in range(0, len(columns), _TERMS):
            end = first + _TERMS
            terms = zip(columns[first:end], weights[first:end], strict=True)
            yield reduce(lax.add, (column * weight[0] for column, weight in terms))

    return reduce(lax.add, partial_sums())


def divided_product(x: Array, kernel: Array) -> Array:
    """`product`, for few pixels in three parts; not for training.

    Two threads of Eigen's that share 49 pixels and a kernel of 160 × 960 take 1.5 times as long as
    with three products, each computed by one of them. A number of images that is not known when
    the program is exported counts as many.
    """
    many = export.is_symbolic_dim(x.shape[0]) or x.shape[0] > _FEW_PIXELS
    if many or kernel.size < _LARGE_KERNEL:
        return product(x, kernel)
    return jnp.concatenate([product(part, kernel) for part in jnp.array_split(x, 3)])
