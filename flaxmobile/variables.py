"""What a network's variables look like, and whether given ones are those of the network."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from flaxmobile.errors import InputError
from flaxmobile.layers import Network

Tree = dict[str, Any]


def abstract_variables(model: Network) -> Tree:
    """Shapes and dtypes of a model's variables as `jax.ShapeDtypeStruct`; computes nothing."""
    return jax.tree.map(lambda leaf: leaf, _traced(model))  # the caller may change its tree


@functools.lru_cache(maxsize=256)
def _traced(model: Network) -> Tree:
    """Tracing a deep network takes a second, and a conversion asks more than once."""
    images = jax.ShapeDtypeStruct((1, model.min_image_size, model.min_image_size, 3), jnp.float32)
    return dict(jax.eval_shape(model.init, jax.random.key(0), images))


def check_variables(expected: Tree, found: Tree, where: str) -> None:
    """Raise InputError, which names every difference, unless paths, dtypes and shapes agree."""
    wanted, given = _layout(expected), _layout(found)
    problems = [f"{path} is missing" for path in wanted if path not in given]
    problems += [f"{path} is not a parameter of the model" for path in given if path not in wanted]
    problems += [
        f"{path} is {given[path]}, the model has {wanted[path]}"
        for path in wanted
        if path in given and given[path] != wanted[path]
    ]
    if problems:
        raise InputError(f"{where} does not fit the model: {'; '.join(problems)}")


def _layout(variables: Tree) -> dict[str, str]:
    flat = traverse_util.flatten_dict(variables, sep="/")
    return {path: f"{np.dtype(leaf.dtype)}{list(leaf.shape)}" for path, leaf in flat.items()}
