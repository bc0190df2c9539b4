"""Kernels and biases that lose less in int8, for networks that did not train for it.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction"
(arXiv:1906.04721), with what images show in place of the statistics of normalization.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flaxmobile.compat import Operation
from flaxmobile.exporters.flow import Layer, Outputs, Value, walk
from flaxmobile.trees import Tree

_TOGETHER = 8
"""Images that a network sees at a time; they bound the memory."""
_FOR_MEANS = 64
"""Images that are enough for a mean."""
_MOST = 127
"""Largest integer of a kernel."""
_LARGEST_FACTOR = 1000.0
"""Largest factor of a channel, so that one that is almost dead stays a small one."""
_TINY = float(np.finfo(np.float32).tiny)


class _Ranges(NamedTuple):
    """Largest absolute input of each channel of a layer, and its `Value.peak`."""

    reads: Any
    peak: Any


def equalize(function: Outputs, variables: Tree, images: np.ndarray) -> Tree:
    """Bring the ranges of the channels between two layers nearer to each other (section 4.1).

    Where a layer alone reads another, a channel between the two may be multiplied by a number by
    which the kernel behind is divided. A channel of small range then uses more of the 256 steps of
    the activation. The factor is the root of what would give it the range of the widest, and less
    where the kernel behind hardly reads it: the other half of the way is room for images that reach
    farther than these. No channel is narrowed, and one that ReLU6 cuts off stays as it is.

    Args:
      function: of a folded network in native form.
      variables: its variables, float32.
      images: [k, h, w, c], as the network takes them.

    Returns:
      New variables: the same outputs for the images, up to float rounding. What ReLU6 did not cut
      off in the images may be cut off in others, where the range that they give ends anyway.
    """
    leaves, structure = jax.tree.flatten(jax.tree.map(np.asarray, variables))
    layers = _look(function, variables, images, _measure_ranges, np.max)
    ranges_of = {id(layer): ranges for layer, ranges in layers}
    used = Counter(leaf for layer, _ in layers for leaf in (layer.kernel, layer.bias))
    used[None] = 0
    for layer, ranges in layers:
        before = layer.before
        if before and max(used[leaf] for leaf in (layer.kernel, before.kernel, before.bias)) == 1:
            kernel = leaves[layer.kernel]
            finest = _finest(leaves[before.kernel], ranges_of[id(before)].reads)
            factors = _factors(kernel, layer, ranges, finest)
            for leaf in (before.kernel, before.bias):
                if leaf is not None:
                    leaves[leaf] = leaves[leaf] * factors
            leaves[layer.kernel] = kernel / _by_group(factors, kernel.shape, layer.groups)
    return jax.tree.unflatten(structure, leaves)


def correct_biases(function: Outputs, variables: Tree, images: np.ndarray) -> Tree:
    """Take the mean that a kernel's rounding adds to each channel out of the bias (section 4.2).

    Args:
      function, variables, images: as for `equalize`.

    Returns:
      New variables.
    """
    leaves, structure = jax.tree.flatten(jax.tree.map(np.asarray, variables))
    spaced = np.linspace(0, len(images) - 1, min(len(images), _FOR_MEANS)).astype(int)
    layers = _look(function, variables, images[spaced], _measure_error, np.mean)
    used = Counter(layer.bias for layer, _ in layers)
    for layer, error in layers:
        if layer.bias is not None and used[layer.bias] == 1:
            leaves[layer.bias] = leaves[layer.bias] - error
    return jax.tree.unflatten(structure, leaves)


def _look(
    function: Outputs,
    variables: Tree,
    images: np.ndarray,
    measure: Callable[[Operation, Value, Any], Any],
    join: Callable[..., np.ndarray],
) -> list[tuple[Layer, Any]]:
    """Show a network images, some at a time, and measure each layer: operation, input, kernel."""
    layers: list[Layer] = []

    @jax.jit
    def look(variables: Tree, images: Array) -> list[Any]:
        seen: list[Any] = []

        def visit(operation: Operation, layer: Layer, x: Value, kernel: Value) -> None:
            layers.append(layer)
            seen.append(measure(operation, x, kernel.array))

        walk(function, variables, images, visit)
        return seen

    times = -(-len(images) // _TOGETHER)
    whole = np.resize(images, (times * _TOGETHER, *images.shape[1:]))
    seen = [look(variables, batch) for batch in np.split(whole, times)]
    joined = jax.tree.map(lambda *each: join(np.asarray(each), axis=0), *seen)
    return list(zip(layers, joined, strict=True))


def _measure_ranges(operation: Operation, x: Value, kernel: Array) -> _Ranges:
    reads = jnp.abs(x.array).max(range(x.array.ndim - 1))
    return _Ranges(reads, reads if x.peak is None else x.peak)


def _measure_error(operation: Operation, x: Value, kernel: Array) -> Array:
    """Return the mean of what the rounding of a kernel [..., out] adds to each output channel."""
    steps = jnp.abs(kernel).max(range(kernel.ndim - 1), keepdims=True) / _MOST
    steps = jnp.where(steps > 0, steps, 1)
    rounding = jnp.round(kernel / steps) * steps - kernel
    (error,) = operation.run([x.array, rounding])
    return error.mean(range(error.ndim - 1))


def _finest(kernel: np.ndarray, reads: np.ndarray) -> np.ndarray:
    """Return the smallest range that is of use to each output channel of a layer [out].

    Its steps are those of a product of a step of the input and one of the kernel.
    """
    return np.abs(kernel).max(tuple(range(kernel.ndim - 1))) / _MOST * reads.max()


def _factors(kernel: np.ndarray, layer: Layer, ranges: _Ranges, finest: np.ndarray) -> np.ndarray:
    """Choose the factor of each channel [c] between a layer and the one before it."""
    widest = np.abs(kernel).max(tuple(range(kernel.ndim - 1)))
    shares = np.abs(kernel) / np.where(widest > 0, widest, 1)
    shares = shares.max(tuple(range(kernel.ndim - 2)))  # [in of a group, out]
    groups = shares.reshape(len(shares), layer.groups, -1).max(-1)  # [in of a group, group]
    needs = groups.T.reshape(-1)  # of each channel: the precision with which the kernel has it
    alive = ranges.reads > 0
    room = np.where(alive, ranges.reads.max() / np.where(alive, ranges.reads, 1), 1)
    room = np.sqrt(room * needs)
    of_use = np.maximum(ranges.reads.max() / np.maximum(finest, _TINY), 1)
    room = np.clip(room, 1, np.minimum(of_use, _LARGEST_FACTOR))
    if np.isfinite(layer.limit):
        beyond = room * ranges.peak > layer.limit
        room = np.where(beyond, layer.limit / np.where(beyond, ranges.peak, 1), room)
        room = np.where(ranges.peak < layer.limit, room, 1)
    return room.astype(np.float32)


def _by_group(factors: np.ndarray, shape: tuple[int, ...], groups: int) -> np.ndarray:
    """Arrange factors of input channels like a kernel [..., in of a group, out]."""
    of_group = factors.reshape(groups, shape[-2]).T  # [in of a group, group]
    return np.repeat(of_group, shape[-1] // groups, axis=1)
