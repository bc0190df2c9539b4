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
    """Declare a parameter of a module as its `param` does, in less time.

    Where the parameter is there, Flax traces its initializer only to compare the shapes: half of
    the time in which a network is traced for inference. Here the shapes are compared.

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
