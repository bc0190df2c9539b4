"""A network applied to a batch in parts that fit a CPU's caches."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, export
from jax.typing import ArrayLike

from flaxmobile.layers import Model
from flaxmobile.layers.chunks import Outputs, convolution_bytes, map_chunks, slice_images

_IMAGES = (8, 4)
"""Images at a time on a CPU, for a small and a large network; they bound the memory of
activations. With fewer, the matrix products on the last maps, of 7 × 7 and 14 × 14 pixels, are too
small for two threads. MobileNetV3-small is 1.1 times slower with four, MobileNetV1 with eight."""

_SMALL_NETWORK = 18 * 2**20
"""Most bytes of all convolutions' outputs for one image in a small network. The networks measured
that are faster with eight images have 5 to 17 MiB, those with four 19 MiB and more."""

_MAP_BYTES = 16 * 2**20
"""Most bytes of the widest map in a block, half of the last-level cache of a server's core complex.
Blocks with wider maps are computed for fewer images at a time."""

_MAP_BYTES_OF_SHARE = 3 * 2**20
"""Most bytes where each core has a share of the batch: the best of 2 to 16 MiB."""


def apply_in_parts(
    model: Model, count: int, variables: Any, images: Array, start: ArrayLike
) -> Outputs:
    """Apply the network to images[start : start + count], some at a time, then to the remainder."""
    if export.is_symbolic_dim(count) or not count:  # unknown yet, or nothing to divide
        return model.apply(variables, images)
    together = _images_together(model, variables, images, count)
    model = model.clone(chunk_bytes=_MAP_BYTES if count == len(images) else _MAP_BYTES_OF_SHARE)

    def apply(first: ArrayLike, number: int) -> Outputs:
        return model.apply(variables, slice_images(images, first, number))

    outputs = []
    if times := count // together:
        outputs.append(map_chunks(lambda i: apply(start + i * together, together), times))
    if rest := count % together:
        outputs.append(apply(start + count - rest, rest))
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *outputs)


def _images_together(model: Model, variables: Any, images: Array, count: int) -> int:
    """Choose how many of `count` images go through the network at a time."""
    for_small, for_large = _IMAGES
    if count <= for_large:
        return for_large
    image = jax.ShapeDtypeStruct((1, *images.shape[1:]), images.dtype)
    map_bytes = sum(convolution_bytes(functools.partial(model.apply, variables), image))
    return for_small if map_bytes <= _SMALL_NETWORK else for_large
