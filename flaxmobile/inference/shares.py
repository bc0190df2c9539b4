"""A batch divided among a CPU's cores."""

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from flaxmobile.cores import usable_cores
from flaxmobile.layers.chunks import Outputs

_LEAST_SHARE = 4
"""Fewest images in a core's share of the batch. If all cores worked on each operation instead, they
would read each other's caches: with 32 images, on two cores that share no cache, MobileNetV2 is 1.7
times slower and V1 1.25 times; with a shared cache, V2 is 1.04 times slower, V3-small equal, and V1
7 percent faster. With shares of two images nothing is gained for V2."""


def count_shares(images: ArrayLike) -> int:
    """Choose the number of shares of a batch."""
    most = jnp.shape(images)[0] // _LEAST_SHARE
    if most < 2 or jax.default_backend() != "cpu":
        return 1
    on_several_devices = isinstance(images, Array) and len(images.devices()) > 1
    return 1 if on_several_devices else min(usable_cores(), most)


def call_in_threads(calls: Sequence[Callable[[], Outputs]], first_alone: bool) -> list[Outputs]:
    """Run programs at the same time, the first from this thread and each other one from its own.

    On a CPU the programs that one thread calls run one after the other. XLA divides each operation
    of a program among its threads, and a thread that has finished its part looks for tasks of its
    own queue before it takes others. So with as many programs as cores, each program stays on its
    core, and its data in that core's cache.

    Args:
      calls: of the same program.
      first_alone: start the others when the first has been compiled, so that it is compiled once.

    Returns:
      The results of the calls, in order.
    """
    # `jax.enable_x64` is local to a thread.
    wide = jax.dtypes.canonicalize_dtype(jnp.float64) == jnp.float64

    def with_same_types(call: Callable[[], Outputs]) -> Outputs:
        with jax.enable_x64(wide):
            return call()

    def start_others() -> list[Future[Outputs]]:
        return [_thread(i).submit(with_same_types, call) for i, call in enumerate(calls[1:])]

    others = [] if first_alone else start_others()
    first = calls[0]()
    others = others or start_others()
    return [first, *(other.result() for other in others)]


@functools.cache
def _thread(number: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, f"jit_inference_{number}")


@functools.partial(jax.jit, static_argnums=0)
def join_shares(count: int, shares: list[Outputs]) -> Outputs:
    """Concatenate shares to `count` images; the last may begin with images of the one before."""

    def join(*parts: Array) -> Array:
        *others, last = parts
        repeated = len(last) * len(parts) - count
        return jnp.concatenate([*others, last[repeated:]])

    return jax.tree.map(join, *shares)
