"""Matrix products of 1×1 convolutions and stems on a CPU."""

from collections.abc import Iterator, Sequence
from functools import reduce

import jax
import jax.numpy as jnp
from jax import Array, export, lax

from flaxmobile.ops.materialize import make_opaque

_MOST_COLUMNS, _VECTOR = 32, 8
"""`sum_of_columns` wins up to 32 columns and where the features fill whole vectors of 8."""

_TERMS = 4
"""Terms of a partial sum. With one sum MobileNetV2's expansions are 1.2 times slower. Partial sums
of 8 terms are as fast as of 4, but MobileNeXt's logits in float32 are off by 6e-5 instead of 3e-5,
which is Eigen's error too."""

_FEW_PIXELS, _LARGE_KERNEL = 64, 2**16
"""Most pixels and smallest kernel of a product that `divided_product` divides."""


@jax.custom_vjp
def product(x: Array, kernel: Array) -> Array:
    """Multiply pixels [p, c] by a kernel [c, d]; differentiable in reverse mode only.

    The kernel's gradient is a sum over all pixels. XLA's CPU backend computes it 1.3 to 2 times
    faster with the smaller of c and d first: MobileNetV2's training step runs 2 percent faster.
    """
    return x @ kernel


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return product(x, kernel), (x, kernel)


def _backward(residuals: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    x, kernel = residuals
    channels, features = kernel.shape
    dx = dy @ kernel.T
    if channels <= features:
        return dx, x.T @ dy
    # Otherwise XLA turns the transposed product of dy and x into the product of x and dy.
    return dx, make_opaque(dy.T @ x).T


product.defvjp(_forward, _backward)


def suits_sum(columns: int, features: int) -> bool:
    """Whether `sum_of_columns` is the faster product.

    With ShuffleNetV2's 58 features it is up to twice as slow as Eigen's.
    """
    return columns <= _MOST_COLUMNS and features % _VECTOR == 0


def sum_of_columns(columns: Sequence[Array], kernel: Array) -> Array:
    """Multiply few columns by a kernel in a loop that XLA fuses; not for training.

    Bias, activation and padding fuse into the loop. After Eigen's product they are separate passes,
    and for 16 columns Eigen spends as long on packing as on computing: on maps of 112 × 112 pixels
    product and passes together are 1.5 to 2.8 times slower. In training each consumer of the result
    would recompute the loop.

    Args:
      columns: k maps [n, h, w, 1].
      kernel: [k, d].

    Returns:
      columns · kernel, [n, h, w, d].
    """
    weights = lax.split(kernel[:, None, None, None], [1] * len(kernel))

    def partial_sums() -> Iterator[Array]:
        for first in range(0, len(columns), _TERMS):
            end = first + _TERMS
            terms = zip(columns[first:end], weights[first:end], strict=True)
            yield reduce(lax.add, (column * weight[0] for column, weight in terms))

    return reduce(lax.add, partial_sums())


def divided_product(x: Array, kernel: Array) -> Array:
    """Multiply as `product` does, few pixels in three parts; not for training.

    When two of Eigen's threads share a product of 49 pixels and a 160 × 960 kernel, it is 1.5 times
    slower than as three products with one thread each. A symbolic number of pixels counts as many.
    """
    many = export.is_symbolic_dim(x.shape[0]) or x.shape[0] > _FEW_PIXELS
    if many or kernel.size < _LARGE_KERNEL:
        return product(x, kernel)
    return jnp.concatenate([product(part, kernel) for part in jnp.array_split(x, 3)])
