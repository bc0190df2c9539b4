"""Parameters of layers."""

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import Array
from jax.typing import DTypeLike

from flaxmobile.errors import InputError


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
        made: Array = module.param(name, init, shape, dtype)
        return made
    value: Array = nn.meta.unbox(module.get_variable("params", name))
    if np.shape(value) != shape:
        path = "/".join((*module.path, name))
        raise InputError(
            f"the variables have {path} of shape {list(np.shape(value))}, and the network "
            f"{list(shape)}: they are of another width, or of other options; load_weights and "
            "load_pretrained return a network with its variables"
        )
    return value
