"""Compiled inference in the form that is fastest on the platform."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from flaxmobile.layers import Network

Outputs = Array | dict[int, Array]

_IMAGES_IN_CACHE = 2
"""On a CPU: so many images go through the whole network at a time, and their maps stay in cache."""


def jit_inference(model: Network) -> Callable[[Any, Array], Outputs]:
    """Compile a network for inference.

    On a CPU the batch goes through the network two images at a time, so that the maps between two
    layers stay in the cache; accelerators take the batch as a whole. Give it a model and variables
    from `fold_batch_norm` to leave the normalization out as well.

    Args:
      model: a classifier or backbone.

    Returns:
      f(variables, images [n, h, w, 3]) -> what `model.apply(variables, images)` gives, compiled
      once for each shape of the images.
    """

    def whole(variables: Any, images: Array) -> Outputs:
        return model.apply(variables, images)

    def in_parts(variables: Any, images: Array) -> Outputs:
        count = len(images) // _IMAGES_IN_CACHE * _IMAGES_IN_CACHE
        if len(images) <= _IMAGES_IN_CACHE:
            return whole(variables, images)
        parts = images[:count].reshape(-1, _IMAGES_IN_CACHE, *images.shape[1:])
        outputs = lax.map(lambda part: whole(variables, part), parts)
        outputs = jax.tree.map(lambda y: y.reshape(count, *y.shape[2:]), outputs)
        if count == len(images):
            return outputs
        last = whole(variables, images[count:])
        return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), outputs, last)

    @jax.jit
    def infer(variables: Any, images: Array) -> Outputs:
        return lax.platform_dependent(variables, images, cpu=in_parts, default=whole)

    return infer
