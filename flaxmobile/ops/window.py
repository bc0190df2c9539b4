"""The geometry of a convolution: strides, padding and dilation, resolved to numbers."""

from collections.abc import Sequence
from typing import NamedTuple

from jax import lax

from flaxmobile.errors import InputError

Pair = tuple[int, int]
Padding = str | Sequence[tuple[int, int]]
"""`"symmetric"` (PyTorch), `"SAME"` (TensorFlow), `"VALID"`, or ((top, bottom), (left, right))."""


class Window(NamedTuple):
    """Static geometry of a 2-D convolution, per axis (height, width). Hashable."""

    strides: Pair
    padding: tuple[Pair, Pair]
    dilation: Pair


def as_pair(value: int | Sequence[int]) -> Pair:
    """Repeat a single number for height and width."""
    if isinstance(value, int):
        return value, value
    height, width = value
    return height, width


def make_window(
    image: Sequence[int],
    kernel: Sequence[int],
    strides: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    dilation: int | Sequence[int] = 1,
) -> Window:
    """Resolve a padding rule for an image of (height, width) under a kernel of (kh, kw).

    `"symmetric"` pads (k - 1) // 2 dilated pixels on both sides, as PyTorch models do; `"SAME"`
    pads as TensorFlow does, more at the bottom and right under a stride. They differ.

    Raises:
      InputError: an unknown rule, a stride or dilation below 1, negative padding, or an image that
        is smaller than the dilated kernel even with its padding.
    """
    strides, dilation = as_pair(strides), as_pair(dilation)
    if min(*strides, *dilation) < 1:
        raise InputError(f"strides {strides} and dilation {dilation} must be at least 1")
    reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
    if not isinstance(padding, str):
        rows, columns = padding
        pads = (as_pair(rows), as_pair(columns))
    elif padding == "symmetric":
        vertical, horizontal = ((k - 1) // 2 * d for k, d in zip(kernel, dilation, strict=True))
        pads = ((vertical, vertical), (horizontal, horizontal))
    elif padding in ("SAME", "VALID"):
        rows, columns = lax.padtype_to_pads(tuple(image), reach, strides, padding)
        pads = ((int(rows[0]), int(rows[1])), (int(columns[0]), int(columns[1])))
    else:
        raise InputError(
            f"unknown padding {padding!r}; accepted: 'symmetric', 'SAME', 'VALID' or "
            "((top, bottom), (left, right))"
        )
    if min(*pads[0], *pads[1]) < 0:
        raise InputError(f"padding is {pads}; accepted: 0 or more on every side")
    window = Window(strides, pads, dilation)
    if min(output_size(image, kernel, window)) < 1:
        raise InputError(
            f"an image of {image[0]} x {image[1]} with padding {pads} is smaller than a kernel of "
            f"{kernel[0]} x {kernel[1]} with dilation {dilation}"
        )
    return window


def output_size(image: Sequence[int], kernel: Sequence[int], window: Window) -> Pair:
    """Height and width of the convolution's output."""
    height, width = (
        (size + sum(pad) - (k - 1) * d - 1) // s + 1
        for size, k, s, pad, d in zip(image, kernel, *window, strict=True)
    )
    return height, width


class Seen(NamedTuple):
    """Outputs for which a tap is in the image, not in its padding; the pixels there; how many."""

    outputs: slice
    pixels: slice
    size: int


def seen_by_taps(
    image: Sequence[int], kernel: Sequence[int], window: Window
) -> tuple[list[Seen], list[Seen]]:
    """Find what each row and each column of a kernel sees of the image."""
    axes = []
    outputs = output_size(image, kernel, window)
    for size, k, out, s, (before, _), d in zip(image, kernel, outputs, *window, strict=True):
        taps = []
        for first in range(-before, k * d - before, d):  # the pixel under the tap at output 0
            start, stop = max(0, -(first // s)), min(out, (size - 1 - first) // s + 1)
            count = max(0, stop - start)
            pixels = slice(first + start * s, first + (stop - 1) * s + 1, s)
            empty = slice(0, 0)
            taps.append(Seen(slice(start, stop), pixels, count) if count else Seen(empty, empty, 0))
        axes.append(taps)
    rows, columns = axes
    return rows, columns


def seen_taps(image: Sequence[int], kernel: Sequence[int], window: Window) -> tuple[slice, slice]:
    """Find the rows and columns of a kernel that see more than padding somewhere.

    At the rates of DeepLab v3 (Chen et al. 2017, section 3.3) on small maps it is the middle alone.
    """
    found = []
    for taps in seen_by_taps(image, kernel, window):
        seen = [i for i, tap in enumerate(taps) if tap.size]
        found.append(slice(seen[0], seen[-1] + 1) if seen else slice(0, len(taps)))
    rows, columns = found
    return rows, columns


def cut_window(
    image: Sequence[int], kernel: Sequence[int], window: Window, taps: tuple[slice, slice]
) -> Window:
    """Pad for a kernel cropped to some taps, with the same output; padding may become negative."""
    pads = []
    outputs = output_size(image, kernel, window)
    for size, out, s, (before, _), d, part in zip(image, outputs, *window, taps, strict=True):
        first = before - part.start * d
        reach = (out - 1) * s + (part.stop - part.start - 1) * d + 1
        pads.append((first, reach - size - first))
    return window._replace(padding=(pads[0], pads[1]))
