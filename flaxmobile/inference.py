"""Compiled inference in the form that is fastest on the platform."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.module import InterceptorContext
from jax import Array, lax
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

_CPU_OPTIONS = {
    "xla_cpu_experimental_ynn_fusion_type": "",
    "xla_disable_hlo_passes": "cse_barrier_expander",
}
"""The first leaves matrix products to Eigen. YNNPACK's threads wait for each other longer than they
compute: with two of them MobileNetV2 takes 1.2 times as long. (It also leaves YNNPACK's reductions
out, without which a training step would take 3.5 times as long.) The second leaves out the pass
that discards optimization barriers before XLA fuses operations: see
`flaxmobile.ops.computed_once`."""


def jit_inference(model: Network) -> Callable[[Any, ArrayLike], Outputs]:
    """Compile a network for inference.

    On a CPU four or eight images go through the network at a time, and through the blocks on large
    maps fewer, so that what is between two layers stays in the cache; accelerators take the batch
    as a whole. Give it a model and variables from `fold_batch_norm` to leave the normalization out
    too.

    Args:
      model: a classifier or backbone.

    Returns:
      f(variables, images [n, h, w, 3]) -> what `model.apply(variables, images)` gives, compiled
      once for each shape of the images.
    """

    def infer(variables: Any, images: Array) -> Outputs:
        return lax.platform_dependent(
            variables,
            images,
            cpu=functools.partial(_in_parts, model),
            default=model.apply,
        )

    nested = jax.jit(infer)
    outermost = jax.jit(infer, compiler_options=_compiler_options())

    @functools.wraps(model.apply)
    def compiled(variables: Any, images: ArrayLike) -> Outputs:
        traced = isinstance(images, jax.core.Tracer)  # JAX takes options of the outermost jit alone
        return (nested if traced else outermost)(variables, images)

    return compiled


@functools.cache
def _compiler_options() -> dict[str, str] | None:
    """The CPU's, where that is the platform and its compiler knows them."""
    if jax.default_backend() != "cpu":
        return None
    try:
        jax.jit(lambda: 0, compiler_options=_CPU_OPTIONS).lower().compile()
    except jax.errors.JaxRuntimeError:
        return None
    return _CPU_OPTIONS


def _in_parts(model: Network, variables: Any, images: Array) -> Outputs:
    """The network for a few images at a time, and what then remains of them."""

    def some(images: Array) -> Outputs:
        with nn.intercept_methods(_block_in_parts):
            return model.apply(variables, images)

    together = _images_together(model, variables, images)
    count = len(images) // together * together
    outputs = [_mapped(some, images[:count], together)] if count else []
    if count < len(images):
        outputs.append(some(images[count:]))
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *outputs)


def _images_together(model: Network, variables: Any, images: Array) -> int:
    """How many images go through the network at a time."""
    for_small, for_large = _IMAGES
    if len(images) <= for_large:
        return for_large
    image = jax.ShapeDtypeStruct((1, *images.shape[1:]), images.dtype)
    map_bytes = sum(_map_bytes(functools.partial(model.apply, variables), image))
    return for_small if map_bytes <= _SMALL_NETWORK else for_large


def _block_in_parts(
    call: Callable[..., Any], args: Any, kwargs: Any, context: InterceptorContext
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
    suitable = max((n for n in divisors if n * image_bytes <= _MAP_BYTES), default=1)
    return call(*args, **kwargs) if suitable == len(x) else _mapped(apply, x, suitable)


def _map_bytes(
    function: Callable[[Array], Outputs], x: ArrayLike | jax.ShapeDtypeStruct
) -> list[int]:
    """Bytes of what each convolution gives when a function is applied to x."""
    sizes: list[int] = []

    def record(
        call: Callable[..., Any], args: Any, kwargs: Any, context: InterceptorContext
    ) -> Outputs:
        y = call(*args, **kwargs)
        if isinstance(context.module, Conv) and context.method_name == "__call__":
            sizes.append(y.nbytes)
        return y

    with nn.intercept_methods(record):
        jax.eval_shape(function, x)
    return sizes


def _mapped(function: Callable[[Array], Outputs], x: Array, count: int) -> Outputs:
    """Apply a function to so many images of x at a time; their number divides that of all."""
    if count == len(x):
        return function(x)
    outputs = lax.map(function, x.reshape(-1, count, *x.shape[1:]))
    return jax.tree.map(lambda y: y.reshape(len(x), *y.shape[2:]), outputs)
