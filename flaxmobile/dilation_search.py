"""Efficient dilation optimization (EDO): a search for the dilations of an IC-Conv network.

Paper: Liu et al., "Inception Convolution with Efficient Dilation Search", CVPR 2021
(arXiv:2012.13587), section 3.2 and figure 2. A supernet has kernels of (2 d + 1)² instead of 3×3.
Once it is trained, each output channel gets the dilated 3×3 kernel that approximates its large
kernel best.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util
from jax import Array

from flaxmobile.dilations import MAX_DILATION, Pattern
from flaxmobile.errors import InputError
from flaxmobile.layers import Conv
from flaxmobile.models.ic_conv import ICConvNet


def search_dilations(model: ICConvNet, variables: Any, batches: Iterable[Any]) -> Pattern:
    """Pick, for each output channel, the dilation that least changes the layer's expected output.

    The criterion, for an output channel with the large kernel W and every pair d of dilations:

        min over d of  sum over pixels of | E[x * W] - E[x * W_d] |

    where W_d has the values of W at the nine taps of a 3×3 kernel of dilation d and is zero
    elsewhere, and E is the mean over the images. As a convolution is linear, that is
    | E[x] * (W - W_d) |: one pass over the images for the mean input E[x] of every layer (a map
    [h, w, c]), and then (d_max)² convolutions of one image. Ties go to the smaller dilation.

    Args:
      model: `create_model("ic_conv", supernet=d_max, …)`; dilations are chosen from 1 to d_max.
      variables: its trained variables.
      batches: images [n, h, w, 3], all of the same height and width, prepared as in training.

    Returns:
      The pattern: `create_model("ic_conv", pattern=pattern, …)` uses it, `save_dilations` writes it
      to a file.

    Raises:
      InputError: the model is not a supernet, there are no batches, or their images differ in size.
    """
    if not isinstance(model, ICConvNet) or not model.supernet:
        raise InputError(
            f"the model is {type(model).__name__} without large kernels; accepted: "
            f'create_model("ic_conv", supernet=d_max) with d_max of 1 to {MAX_DILATION}'
        )
    convolutions, means = _mean_inputs(model, variables, batches)
    params = traverse_util.flatten_dict(variables["params"], sep="/")
    return {
        layer: _best_dilations(
            convolutions[layer], params[f"{layer}/conv/kernel"], means[layer], model.supernet
        ).tolist()
        for layer in model.layers()
    }


def _mean_inputs(
    model: ICConvNet, variables: Any, batches: Iterable[Any]
) -> tuple[dict[str, Conv], dict[str, np.ndarray]]:
    """Return every layer's convolution, and the mean of its input over all images [h, w, c]."""
    convolutions: dict[str, Conv] = {}
    layers = model.layers()

    @jax.jit
    def sums(variables: Any, images: Array) -> dict[str, Array]:
        found = {}

        def record(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
            module = context.module
            layer = "/".join(module.path[:-1])
            is_layer = isinstance(module, Conv) and layer in layers
            if is_layer and context.method_name == "__call__":
                convolutions[layer] = module.clone(
                    parent=None, name=None, use_bias=False, dtype=jnp.float32
                )
                found[layer] = args[0].sum(0, dtype=jnp.float32)
            return call(*args, **kwargs)

        with nn.intercept_methods(record):
            model.apply(variables, images)
        return found

    totals: dict[str, np.ndarray] = {}
    size, count = None, 0
    for images in batches:
        if size not in (None, images.shape[1:]):
            raise InputError(
                f"batches hold images of {list(size)} and {list(images.shape[1:])}; accepted: one "
                "size"
            )
        size, count = images.shape[1:], count + len(images)
        for layer, total in sums(variables, images).items():
            totals[layer] = totals.get(layer, 0) + np.asarray(total, np.float64)
    if not count:
        raise InputError("batches hold no images; accepted: at least one batch")
    return convolutions, {layer: total / count for layer, total in totals.items()}


def _best_dilations(conv: Conv, kernel: Array, mean: np.ndarray, most: int) -> np.ndarray:
    """Return [vertical, horizontal] of each output channel: [channels, 2]."""
    pairs = np.asarray([(i, j) for i in range(1, most + 1) for j in range(1, most + 1)])
    lost = jnp.asarray([~_taps(most, *pair) for pair in pairs], jnp.float32)
    errors = _errors(conv, jnp.asarray(kernel), jnp.asarray(mean, jnp.float32)[None], lost)
    return pairs[np.argmin(errors, axis=0)]


def _taps(most: int, vertical: int, horizontal: int) -> np.ndarray:
    """Mask of the taps of a 3×3 kernel of this dilation within the large kernel."""
    taps = np.zeros((2 * most + 1, 2 * most + 1), bool)
    taps[most - vertical :: vertical, most - horizontal :: horizontal][:3, :3] = True
    return taps


@partial(jax.jit, static_argnums=0)
def _errors(conv: Conv, kernel: Array, mean: Array, lost: Array) -> Array:
    """L1 norm of what each set of lost taps adds to the expected output: [sets, channels]."""

    def error(taps: Array) -> Array:
        removed = kernel * taps[:, :, None, None]
        return jnp.abs(conv.apply({"params": {"kernel": removed}}, mean)).sum((0, 1, 2))

    return jax.lax.map(error, lost)
