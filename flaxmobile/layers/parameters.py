"""Parameters of layers, and their shapes without their numbers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array
from jax.typing import DTypeLike

from flaxmobile.errors import InputError

_SHAPES_ONLY = "shapes_only"
"""Random stream whose presence says that no number of a parameter is used."""


def parameter(
    module: nn.Module,
    name: str,
    init: nn.initializers.Initializer,
    shape: tuple[int, ...],
    dtype: DTypeLike = jnp.float32,
) -> Array:
    """Declare a parameter of a module, as `module.param` does, but faster to trace.

    Where a parameter exists, Flax traces its initializer to compare the shapes, which takes half of
    the time of tracing inference. Here the shapes are compared directly.

    Raises:
      InputError: the parameter is there in another shape.
    """
    if not module.has_variable("params", name):
        if module.has_rng(_SHAPES_ONLY):
            module.put_variable("params", name, jnp.zeros(shape, dtype))
        else:
            module.param(name, init, shape, dtype)
    value: Array = nn.meta.unbox(module.get_variable("params", name))
    if np.shape(value) != shape:
        path = "/".join((*module.path, name))
        raise InputError(
            f"the variables have {path} of shape {list(np.shape(value))}, and the network "
            f"{list(shape)}: they are of another width, or of other options; load_weights and "
            "load_pretrained return a network with its variables"
        )
    return value


def trace_init(model: nn.Module, images: Any) -> tuple[Any, dict[str, Any]]:
    """Outputs and variables of a network that is initialized, as `jax.ShapeDtypeStruct`.

    `jax.eval_shape` of `init_with_output` in a third of the time: initializers are not traced, and
    every operation in one form only.

    Args:
      model: any network, free or bound to a module.
      images: [n, h, w, in_channels], or their shape and dtype.
    """
    key = jax.eval_shape(jax.random.key, 0)
    free = model.clone(parent=None, name=None, native=True)
    rngs = {"params": key, _SHAPES_ONLY: key}
    outputs, variables = jax.eval_shape(free.init_with_output, rngs, images)
    return outputs, dict(variables)
