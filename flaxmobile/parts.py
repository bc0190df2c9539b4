"""A batch that goes through a network in parts, for a CPU's caches."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, export, lax
from jax.typing import ArrayLike

from flaxmobile.layers import Conv, Network

Outputs = Any
"""An array, or a tree of arrays, with an entry for each image."""

_IMAGES = (8, 4)
"""On a CPU: so many images go through a small or a large network at a time, which bounds its
memory. Below that, the matrix products on the last maps, of 7 × 7 and 14 × 14 pixels, are too
small for two threads. With four MobileNetV3-small takes 1.1 times as long; with eight MobileNetV1
does."""

_SMALL_NETWORK = 18 * 2**20
"""On a CPU: bytes of the maps that its convolutions make of an image. The networks measured that
are faster with eight images make 5 to 17 MiB, those with four 19 MiB and more."""

_MAP_BYTES = 16 * 2**20
"""On a CPU: so large may the widest map in a block be, half of the last cache of a server's core
complex. Of blocks with wider ones, fewer images are computed at a time."""

_MAP_BYTES_OF_SHARE = 3 * 2**20
"""The same where each core has a share of the batch: of 2 to 16 MiB this was best."""


def in_parts(
    model: Network, count: int, variables: Any, images: Array, start: ArrayLike
) -> Outputs:
    """The network for a few of `count` images from `start` on, and what then remains of them."""
    if export.is_symbolic_dim(count) or not count:  # unknown yet, or nothing to divide
        return model.apply(variables, images)
    most_bytes = _MAP_BYTES if count == len(images) else _MAP_BYTES_OF_SHARE
    block_in_parts = functools.partial(_block_in_parts, most_bytes)

    def some(first: ArrayLike, number: int) -> Outputs:
        with nn.intercept_methods(block_in_parts):
            return model.apply(variables, some_images(images, first, number))

    together = _images_together(model, variables, images, count)
    outputs = []
    if times := count // together:
        outputs.append(_repeat(lambda i: some(start + i * together, together), times))
    if rest := count % together:
        outputs.append(some(start + count - rest, rest))
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *outputs)


def _images_together(model: Network, variables: Any, images: Array, count: int) -> int:
    """How many of `count` images go through the network at a time."""
    for_small, for_large = _IMAGES
    if count <= for_large:
        return for_large
    image = jax.ShapeDtypeStruct((1, *images.shape[1:]), images.dtype)
    map_bytes = sum(_map_bytes(functools.partial(model.apply, variables), image))
    return for_small if map_bytes <= _SMALL_NETWORK else for_large


def _block_in_parts(
    most_bytes: int,
    call: Callable[..., Any],
    args: Any,
    kwargs: Any,
    context: Any,
) -> Outputs:
    """Run a block, or a layer that is the network's own, for as many images as suit its maps."""
    module = context.module
    is_block = context.method_name == "__call__" and isinstance(module.parent, Network)
    if not is_block or args[0].ndim != 4:
        return call(*args, **kwargs)
    x, *others = args
    block, variables = module.clone(parent=None), module.variables

    def apply(x: Array) -> Outputs:
        return block.apply(variables, x, *others, **kwargs)

    image_bytes = max(_map_bytes(apply, x), default=0) // len(x)
    divisors = [n for n in range(1, len(x) + 1) if len(x) % n == 0]
    suitable = max((n for n in divisors if n * image_bytes <= most_bytes), default=1)
    if suitable == len(x):
        return call(*args, **kwargs)
    return _repeat(lambda i: apply(some_images(x, i * suitable, suitable)), len(x) // suitable)


def _map_bytes(
    function: Callable[[Array], Outputs], x: ArrayLike | jax.ShapeDtypeStruct
) -> list[int]:
    """Bytes of what each convolution gives when a function is applied to x."""
    sizes: list[int] = []

    def record(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Outputs:
        y = call(*args, **kwargs)
        if isinstance(context.module, Conv) and context.method_name == "__call__":
            sizes.append(y.nbytes)
        return y

    with nn.intercept_methods(record):
        jax.eval_shape(function, x)
    return sizes


def some_images(images: Array, start: ArrayLike, count: int) -> Array:
    """`count` images from `start` on."""
    return images if count == images.shape[0] else lax.dynamic_slice_in_dim(images, start, count)


def _repeat(function: Callable[[ArrayLike], Outputs], times: int) -> Outputs:
    """What a function of 0, 1, 2 … gives for some images each time, for all of them."""
    if times == 1:
        return function(0)
    outputs = lax.map(function, jnp.arange(times))
    return jax.tree.map(lambda y: y.reshape(y.shape[0] * y.shape[1], *y.shape[2:]), outputs)
