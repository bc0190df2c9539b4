"""Windows on an image as shifted slices, and gradients gathered through them: the CPU's forms."""

from collections.abc import Callable, Iterator, Sequence

import jax.numpy as jnp
from jax import Array

from flaxmobile.ops.window import Pair, Window


def taps(kernel: Sequence[int]) -> Iterator[Pair]:
    """Places (down, right) in a kernel of (height, width), row by row."""
    return ((i, j) for i in range(kernel[0]) for j in range(kernel[1]))


def shifted_slice(x: Array, start: Pair, size: Sequence[int], strides: Pair) -> Array:
    """Every strides-th pixel of x [n, h, w, c] from start on, `size` (height, width) of them."""
    (top, left), (height, width), (sh, sw) = start, size, strides
    return x[
        :,
        top : top + (height - 1) * sh + 1 : sh,
        left : left + (width - 1) * sw + 1 : sw,
    ]


def gather_gradient(
    window: Window,
    kernel: Sequence[int],
    image: Sequence[int],
    outputs: Sequence[Array],
    term: Callable[..., Array],
) -> Array:
    """Gather, for each pixel of the image, what the outputs give back that it took part in.

    Output o reads padded pixel o * s + t * d at tap t. The padded pixels of one phase p (positions
    q * s + p) are therefore read by those taps alone whose offset t * d leaves p modulo s, and by
    output q + (p - t * d) / s: a shifted sum over the outputs for each phase, interleaved at the
    end.

    Args:
      window: strides, padding and dilation.
      kernel: (height, width).
      image: (height, width), without padding.
      outputs: maps [n, h', w', c] that the gradient is made of; the first has its type.
      term: (tap, *outputs) -> what the tap gives back to the pixel it has read, [n, ., ., c]; 0
        where the outputs are.

    Returns:
      [n, *image, c].
    """
    (sh, sw), pads, (dh, dw) = window
    count, *shape, channels = outputs[0].shape
    height, width = (size + sum(pad) for size, pad in zip(image, pads, strict=True))
    rows, columns = -(-height // sh), -(-width // sw)
    reach = ((kernel[0] - 1) * dh // sh + 1, (kernel[1] - 1) * dw // sw + 1)
    margin = [  # zeros on every side, so that each shift can be a plain slice
        (reach[0], max(0, rows - shape[0]) + 1),
        (reach[1], max(0, columns - shape[1]) + 1),
    ]
    padded = [jnp.pad(output, [(0, 0), *margin, (0, 0)]) for output in outputs]

    def phase(p: int, q: int) -> Array:
        total = jnp.zeros((count, rows, columns, channels), outputs[0].dtype)
        for i, j in taps(kernel):
            (up, not_p), (left, not_q) = divmod(p - i * dh, sh), divmod(q - j * dw, sw)
            if not (not_p or not_q):
                start = (reach[0] + up, reach[1] + left)
                shifts = (shifted_slice(a, start, (rows, columns), (1, 1)) for a in padded)
                total += term((i, j), *shifts)
        return total

    phases = jnp.stack([jnp.stack([phase(p, q) for q in range(sw)], 3) for p in range(sh)], 2)
    gradient = phases.reshape(count, rows * sh, columns * sw, channels)
    (top, _), (left, _) = pads
    return gradient[:, top : top + image[0], left : left + image[1]]
