"""Shifted slices of an image, and gradients through them: the CPU's forms of windows."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from flaxmobile.ops.window import Pair, Window


def taps(kernel: Sequence[int]) -> Iterator[Pair]:
    """Iterate over the taps (row, column) of a kernel of (height, width), row by row."""
    return ((i, j) for i in range(kernel[0]) for j in range(kernel[1]))


def shifted_slice(x: Array, start: Pair, size: Sequence[int], strides: Pair) -> Array:
    """Slice `size` (height, width) pixels of x [n, h, w, c], from start on in steps of strides."""
    (top, left), (height, width), (sh, sw) = start, size, strides
    end = (x.shape[0], top + (height - 1) * sh + 1, left + (width - 1) * sw + 1, x.shape[3])
    return lax.slice(x, (0, top, left, 0), end, (1, sh, sw, 1))  # traced faster than an index


class Phases(NamedTuple):
    """Pixels of an image along one axis, by phase, and the margins their gradient needs.

    Output o reads padded pixel o * s + t * d at tap t. Padded pixel q * s + p, of phase p, is
    therefore read by exactly those taps whose offset t * d leaves p modulo s, at output
    q + (p - t * d) / s.

    Attributes:
      first: smallest q of the image's pixels.
      size: number of values of q, up to the largest of the image's pixels.
      margins: zeros to pad before and after the outputs, so that all these outputs exist.
    """

    first: int
    size: int
    margins: Pair


def image_phases(
    window: Window, kernel: Sequence[int], image: Sequence[int], output: Sequence[int]
) -> tuple[Phases, Phases]:
    """Compute the phases of both axes, of an image and an output of (height, width)."""

    def axis_phases(s: int, pad: Pair, d: int, kernel: int, size: int, outputs: int) -> Phases:
        first = pad[0] // s
        last = (pad[0] + size - 1) // s
        shifts = [(p - t * d) // s for p in range(s) for t in range(kernel) if (p - t * d) % s == 0]
        margins = (max(0, -first - min(shifts)), max(0, last + max(shifts) - outputs + 1))
        return Phases(first, last - first + 1, margins)

    vertical, horizontal = map(axis_phases, *window, kernel, image, output)
    return vertical, horizontal


def pad_pixels(x: Array, pads: Sequence[Pair]) -> Array:
    """Pad images [n, h, w, c] with zeros by ((top, bottom), (left, right))."""
    return jnp.pad(x, [(0, 0), *pads, (0, 0)])


def gather_gradient(
    window: Window,
    kernel: Sequence[int],
    image: Sequence[int],
    outputs: Sequence[Array],
    term: Callable[..., Array],
) -> Array:
    """Sum, for each pixel of the image, the terms of all outputs that read it.

    Each of the `Phases` is a sum over shifted outputs; they are interleaved at the end.

    Args:
      window: strides, padding and dilation.
      kernel: (height, width).
      image: (height, width), without padding.
      outputs: maps [n, h', w', c] that the terms are computed from; the first has the gradient's
        type.
      term: (tap, *shifted outputs) -> gradient through the tap [n, ., ., c]; 0 where these are 0.

    Returns:
      [n, *image, c].
    """
    (sh, sw), pads, (dh, dw) = window
    count, *shape, channels = outputs[0].shape
    rows, columns = image_phases(window, kernel, image, shape)
    padded = [pad_pixels(output, (rows.margins, columns.margins)) for output in outputs]
    top, left = rows.first + rows.margins[0], columns.first + columns.margins[0]
    size = (rows.size, columns.size)

    def phase(p: int, q: int) -> Array:
        total = jnp.zeros((count, *size, channels), outputs[0].dtype)
        for i, j in taps(kernel):
            (down, not_p), (right, not_q) = divmod(p - i * dh, sh), divmod(q - j * dw, sw)
            if not (not_p or not_q):
                start = (top + down, left + right)
                total += term((i, j), *(shifted_slice(a, start, size, (1, 1)) for a in padded))
        return total

    phases = jnp.stack([jnp.stack([phase(p, q) for q in range(sw)], 3) for p in range(sh)], 2)
    gradient = phases.reshape(count, rows.size * sh, columns.size * sw, channels)
    top, left = pads[0][0] - rows.first * sh, pads[1][0] - columns.first * sw
    return gradient[:, top : top + image[0], left : left + image[1]]
