"""Compiled inference in the form that is fastest on the platform."""

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen.module import InterceptorContext
from jax import Array, lax
from jax.extend.core import get_opaque_trace_state
from jax.typing import ArrayLike

from flaxmobile.compiler import inference_options
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

_LEAST_SHARE = 4
"""On a CPU: so many images, and more, are a share of the batch for one core. When all cores work at
each operation, they read what lies in each other's caches: 32 images take MobileNetV2 1.7 times as
long, and V1 1.25 times, where two cores have no cache in common; where they have, V2 takes 1.04
times as long, V3-small the same and V1 0.93 times. With shares of two images V2 takes as long."""

with jax.core.eval_context():
    _NOT_TRACED = get_opaque_trace_state(convention="flax")
    """That no transformation of JAX is at work. To look for tracers among the arguments instead takes
    0.1 of the 2.6 ms of an image."""


def jit_inference(model: Network) -> Callable[[Any, ArrayLike], Outputs]:
    """Compile a network for inference.

    On a CPU each core takes a share of the batch, of that four or eight images go through the
    network at a time, and through the blocks on large maps fewer, so that what is between two
    layers stays in the core's cache; accelerators take the batch as a whole. Give it a model and
    variables from `fold_batch_norm` to leave the normalization out too.

    Args:
      model: a classifier or backbone.

    Returns:
      f(variables, images [n, h, w, 3]) -> what `model.apply(variables, images)` gives, compiled
      once for each shape of the images.
    """

    def infer(variables: Any, images: Array, start: ArrayLike = 0, count: int = 0) -> Outputs:
        """Of `count` images from `start` on; by default of all."""
        count = count or len(images)
        return lax.platform_dependent(
            variables,
            images,
            start,
            cpu=functools.partial(_in_parts, model, count),
            default=lambda v, x, start: model.apply(v, _some(x, start, count)),
        )

    nested = jax.jit(infer)
    outermost = jax.jit(infer, static_argnums=3, compiler_options=inference_options())

    @functools.wraps(model.apply)
    def compiled(variables: Any, images: ArrayLike) -> Outputs:
        if get_opaque_trace_state(convention="flax") != _NOT_TRACED:
            return nested(variables, images)  # JAX takes options of the outermost jit alone
        if (shares := _shares(images)) == 1:
            return outermost(variables, images)
        images = jnp.asarray(images)
        number, count = len(images), -(-len(images) // shares)
        starts = [*range(0, number - count, count), number - count]
        calls = [functools.partial(outermost, variables, images, i, count) for i in starts]
        return _join(number, _each_from_a_thread(calls))

    return compiled


def _shares(images: ArrayLike) -> int:
    """In how many shares a batch is computed."""
    most = jnp.shape(images)[0] // _LEAST_SHARE
    if most < 2 or jax.default_backend() != "cpu":
        return 1
    on_several = isinstance(images, Array) and len(images.devices()) > 1
    return 1 if on_several else min(_cores(), most)


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _each_from_a_thread(calls: Sequence[Callable[[], Outputs]]) -> list[Outputs]:
    """Programs that one thread calls run one after the other on a CPU; those of several at once.

    Of a program, XLA divides each operation among its threads. A thread whose part of one is done
    looks for tasks of its own first, so that with as many programs as cores each stays on its core,
    with what it computed in the caches there.
    """
    # What `jax.enable_x64` sets holds in the thread that sets it.
    wide = jax.dtypes.canonicalize_dtype(jnp.float64) == jnp.float64

    def with_same_types(call: Callable[[], Outputs]) -> Outputs:
        with jax.enable_x64(wide):
            return call()

    first = calls[0]()  # compiles it for the others too
    others = [_thread(i).submit(with_same_types, call) for i, call in enumerate(calls[1:])]
    return [first, *(other.result() for other in others)]


@functools.cache
def _thread(number: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, f"jit_inference_{number}")


@functools.partial(jax.jit, static_argnums=0)
def _join(count: int, shares: list[Outputs]) -> Outputs:
    """The last share may begin with images of the one before."""

    def join(*parts: Array) -> Array:
        *others, last = parts
        repeated = len(last) * len(parts) - count
        return jnp.concatenate([*others, last[repeated:]])

    return jax.tree.map(join, *shares)


def _in_parts(
    model: Network, count: int, variables: Any, images: Array, start: ArrayLike
) -> Outputs:
    """The network for a few of `count` images from `start` on, and what then remains of them."""
    most_bytes = _MAP_BYTES if count == len(images) else _MAP_BYTES_OF_SHARE
    in_parts = functools.partial(_block_in_parts, most_bytes)

    def some(first: ArrayLike, number: int) -> Outputs:
        with nn.intercept_methods(in_parts):
            return model.apply(variables, _some(images, first, number))

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
    context: InterceptorContext,
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
    return _repeat(lambda i: apply(_some(x, i * suitable, suitable)), len(x) // suitable)


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


def _some(images: Array, start: ArrayLike, count: int) -> Array:
    return images if count == len(images) else lax.dynamic_slice_in_dim(images, start, count)


def _repeat(function: Callable[[ArrayLike], Outputs], times: int) -> Outputs:
    """What a function of 0, 1, 2 … gives for some images each time, for all of them."""
    if times == 1:
        return function(0)
    outputs = lax.map(function, jnp.arange(times))
    return jax.tree.map(lambda y: y.reshape(-1, *y.shape[2:]), outputs)
