"""Layout of a network's variables, and a check of given variables against it."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jax import Array

from flaxmobile.errors import InputError
from flaxmobile.layers import HeadedNetwork, Model
from flaxmobile.layers.parameters import trace_init
from flaxmobile.sizes import ImageSize, as_height_and_width
from flaxmobile.trees import Tree


def init(model: Model, key: Array, image_size: ImageSize | None = None) -> Tree:
    """Initialize a network's variables, compiled: much faster than `model.init` op by op.

    Args:
      model: a classifier, a backbone, or a head over one. It is compiled once for each size of
        image.
      key: random key, such as jax.random.key(0).
      image_size: side of the images in pixels, or (height, width); by default the smallest that
        the network takes. No shape of a variable depends on it.

    Returns:
      {"params": …, "batch_stats": …}, float32.

    Raises:
      InputError: the images are smaller than the network's minimum.
    """
    return _init(model, key, as_height_and_width(image_size or model.min_image_size))


@functools.partial(jax.jit, static_argnums=(0, 2))
def _init(model: Model, key: Array, size: tuple[int, int]) -> Tree:
    return dict(model.init(key, jnp.zeros((1, *size, model.in_channels))))


def abstract_variables(model: Model) -> Tree:
    """Shapes and dtypes of a model's variables as `jax.ShapeDtypeStruct`, by tracing only."""
    return jax.tree.map(lambda leaf: leaf, _trace(model))  # a copy, which the caller may change


@functools.lru_cache(maxsize=256)
def _trace(model: Model) -> Tree:
    """Trace a network's initialization once: half a second for a deep one."""
    side = model.min_image_size
    images = jax.ShapeDtypeStruct((1, side, side, model.in_channels), jnp.float32)
    return trace_init(model, images)[1]


def widen(variables: Tree) -> Tree:
    """Return variables as NumPy's arrays, bfloat16 and float16 as float32, which is exact."""

    def as_array(leaf: Any) -> np.ndarray:
        array = np.asarray(leaf)
        narrow = jnp.issubdtype(array.dtype, jnp.floating) and array.dtype.itemsize < 4
        return array.astype(np.float32) if narrow else array

    return jax.tree.map(as_array, variables)


def check_variables(expected: Tree, found: Tree, where: str) -> None:
    """Compare paths, dtypes and shapes of two trees of variables.

    Raises:
      InputError: they differ; the message begins with `where` and lists every difference.
    """
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


def heads_of(model: Model, variables: Tree) -> Tree:
    """Return the variables of a network's classifiers."""
    return {
        collection: {name: groups[name] for name in model.heads if name in groups}
        for collection, groups in variables.items()
    }


def replace_heads(model: Model, trained: Tree, fresh: Tree) -> Tree:
    """Return a network's trained variables with the classifiers of fresh ones."""
    heads = heads_of(model, fresh)
    return {name: {**groups, **heads.get(name, {})} for name, groups in trained.items()}


def transfer_backbone(model: HeadedNetwork, trained: Tree, fresh: Tree) -> Tree:
    """Return a headed network's fresh variables with all that a trained classifier has of them.

    That is the backbone, and the model's `classifier_groups` where they have the same shapes.
    """
    moved: Tree = {}
    for collection, groups in fresh.items():
        theirs = trained[collection]
        kept = {
            own: theirs[name]
            for own, name in model.classifier_groups.items()
            if own in groups and _layout(groups[own]) == _layout(theirs.get(name, {}))
        }
        backbone = {name: theirs[name] for name in groups["backbone"]}
        moved[collection] = {**groups, **kept, "backbone": backbone}
    return moved


def adapt_input(model: Model, trained: Tree) -> Tree:
    """Fit trained variables to a network whose images have another number of channels.

    The first kernel is summed over its input channels for one channel; for more it is repeated, and
    scaled so that its sum stays. Source: timm's `adapt_input_conv`.
    """
    wanted = traverse_util.flatten_dict(abstract_variables(model), sep="/")
    adapted = traverse_util.flatten_dict(trained, sep="/")
    for path, leaf in adapted.items():
        channels = wanted[path].shape[2] if leaf.ndim == 4 else 0
        if channels and channels != (own := leaf.shape[2]):
            repeated = jnp.tile(leaf, (1, 1, -(-channels // own), 1))[:, :, :channels]
            one = leaf.sum(2, keepdims=True)
            adapted[path] = one if channels == 1 else repeated * (own / channels)
    return traverse_util.unflatten_dict(adapted, sep="/")


def _layout(variables: Tree) -> dict[str, str]:
    flat = traverse_util.flatten_dict(variables, sep="/")
    return {path: f"{np.dtype(leaf.dtype)}{list(leaf.shape)}" for path, leaf in flat.items()}
