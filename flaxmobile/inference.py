"""Compiled inference in the form that is fastest on the platform."""

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, overload

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from flaxmobile.compat import is_traced
from flaxmobile.compiler import inference_options
from flaxmobile.cores import usable_cores
from flaxmobile.layers import Network
from flaxmobile.layers.chunks import Outputs, slice_images
from flaxmobile.ops.meshes import partition_by_compiler
from flaxmobile.parts import in_parts

_LEAST_SHARE = 4
"""On a CPU: so many images, and more, are a share of the batch for one core. When all cores work at
each operation, they read what lies in each other's caches: 32 images take MobileNetV2 1.7 times as
long, and V1 1.25 times, where two cores have no cache in common; where they have, V2 takes 1.04
times as long, V3-small the same and V1 0.93 times. With shares of two images V2 takes as long."""


@overload
def jit_inference(model: Network) -> Callable[[Any, ArrayLike], Outputs]: ...
@overload
def jit_inference(model: Network, variables: Any) -> Callable[[ArrayLike], Outputs]: ...
def jit_inference(model: Network, variables: Any = None) -> Callable[..., Outputs]:
    """Compile a network for inference.

    On a CPU each core takes a share of the batch, of that four or eight images go through the
    network at a time, and through the blocks on large maps fewer, so that what is between two
    layers stays in the core's cache; accelerators take the batch as a whole. Give it a model and
    variables from `fold_batch_norm` to leave the normalization out too.

    Args:
      model: a classifier or backbone.
      variables: of the model, where all calls have the same. They are put on the device once, and
        a call hands over half as many arrays: of an image that takes MobileNetV2 2.6 ms, 0.15.

    Returns:
      f(variables, images [n, h, w, 3]), or f(images) where the variables were given -> what
      `model.apply(variables, images)` gives, compiled once for each shape of the images.
    """
    if variables is None:
        return _compiled(model, lambda variables: variables)
    packed, unpack = _pack(variables)
    return functools.partial(_compiled(model, unpack), packed)


def _compiled(model: Network, unpack: Callable[[Any], Any]) -> Callable[[Any, ArrayLike], Outputs]:
    """What `jit_inference` gives, of variables that are to be unpacked."""

    def infer(packed: Any, images: Array, start: ArrayLike = 0, count: int = 0) -> Outputs:
        """Of `count` images from `start` on; by default of all."""
        count = count or images.shape[0]

        def on_platform(images: Array, packed: Any, start: ArrayLike) -> Outputs:
            return lax.platform_dependent(
                unpack(packed),
                images,
                start,
                cpu=functools.partial(in_parts, model, count),
                default=lambda v, x, start: model.apply(v, slice_images(x, start, count)),
            )

        return partition_by_compiler(on_platform, images, packed, start)

    nested = jax.jit(infer)
    outermost = jax.jit(infer, static_argnums=3, compiler_options=inference_options())

    @functools.wraps(model.apply)
    def compiled(packed: Any, images: ArrayLike) -> Outputs:
        if is_traced(packed, images):
            return nested(packed, images)  # JAX takes options of the outermost jit alone
        if (shares := _shares(images)) == 1:
            return outermost(packed, images)
        images = jnp.asarray(images)
        number, count = len(images), -(-len(images) // shares)
        starts = [*range(0, number - count, count), number - count]
        calls = [functools.partial(outermost, packed, images, i, count) for i in starts]
        return _join(number, _each_from_a_thread(calls))

    return compiled


def _pack(variables: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Variables with all vectors of a type as one, in a list, and what makes them of it again."""
    leaves, structure = jax.tree.flatten(jax.tree.map(jnp.asarray, variables))
    vectors: dict[Any, list[int]] = {}
    for place, leaf in enumerate(leaves):
        if leaf.ndim == 1:
            vectors.setdefault(leaf.dtype, []).append(place)
    sizes = [[len(leaves[place]) for place in places] for places in vectors.values()]
    joined = [jnp.concatenate([leaves[place] for place in places]) for places in vectors.values()]
    others = [None if leaf.ndim == 1 else leaf for leaf in leaves]

    def unpack(packed: tuple[list[Any], list[Array]]) -> Any:
        leaves, joined = list(packed[0]), packed[1]
        for places, array, parts in zip(vectors.values(), joined, sizes, strict=True):
            for place, vector in zip(places, lax.split(array, parts), strict=True):
                leaves[place] = vector
        return jax.tree.unflatten(structure, leaves)

    return (others, joined), unpack


def _shares(images: ArrayLike) -> int:
    """In how many shares a batch is computed."""
    most = jnp.shape(images)[0] // _LEAST_SHARE
    if most < 2 or jax.default_backend() != "cpu":
        return 1
    on_several = isinstance(images, Array) and len(images.devices()) > 1
    return 1 if on_several else min(usable_cores(), most)


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
