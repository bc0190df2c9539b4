"""Kernels and biases that lose less in int8, for networks that did not train for it.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction"
(arXiv:1906.04721), with what images show in place of the statistics of normalization.
"""

from collections import Counter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flaxmobile.exporters.flow import Layer, Outputs, Value, walk
from flaxmobile.trees import Tree

_IMAGES = 8
"""Images that the network sees at a time; they bound the memory."""
_MOST = 127
"""Largest integer of a kernel."""
_LARGEST_FACTOR = 1000.0
"""Of a channel, so that one that is almost dead stays a small one."""
_TINY = float(np.finfo(np.float32).tiny)


class _Seen(NamedTuple):
    """What images show of a layer.

    Attributes:
      reads: largest absolute input of each channel.
      peak: see `Value.peak`, of its input.
      error: mean of what the rounding of its kernel adds to each output channel.
    """

    reads: Array
    peak: Array
    error: Array


class Looks:
    """What calibration images show of a network, for any numbers of its variables."""

    def __init__(self, function: Outputs, images: np.ndarray) -> None:
        """Take a network and its images.

        Args:
          function: of a folded network in native form.
          images: [k, h, w, c], as the network takes them.
        """
        times = -(-len(images) // _IMAGES)
        whole = np.resize(images, (times * _IMAGES, *images.shape[1:]))
        self._batches = np.split(whole, times)
        self._layers: list[Layer] = []

        @jax.jit
        def look(variables: Tree, images: Array) -> list[_Seen]:
            self._layers.clear()
            seen: list[_Seen] = []

            def visit(equation: Any, layer: Layer, x: Value, kernel: Value) -> None:
                self._layers.append(layer)
                seen.append(_look(equation, x, kernel.array))

            walk(function, variables, images, visit)
            return seen

        self._look = look

    def at(self, variables: Tree) -> list[tuple[Layer, _Seen]]:
        """Return the layers in order, and what is seen of each, over all images."""
        seen = [jax.tree.map(np.asarray, self._look(variables, each)) for each in self._batches]
        joined = [
            _Seen(
                np.max([each.reads for each in of_layer], 0),
                np.max([each.peak for each in of_layer], 0),
                np.mean([each.error for each in of_layer], 0),
            )
            for of_layer in zip(*seen, strict=True)
        ]
        return list(zip(self._layers, joined, strict=True))


def equalize(looks: Looks, variables: Tree) -> Tree:
    """Bring the ranges of the channels between two layers nearer to each other (section 4.1).

    Where a layer alone reads another, a channel between the two may be multiplied by a number by
    which the kernel behind is divided. A channel of small range then uses more of the 256 steps of
    the activation. The factor is the root of what would give it the range of the widest, and less
    where the kernel behind hardly reads it: the other half of the way is room for images that reach
    farther than these. No channel is narrowed, and one that ReLU6 cuts off stays as it is.

    Args:
      looks: at the network.
      variables: its variables, float32.

    Returns:
      New variables: the same outputs for the images, up to float rounding. What ReLU6 did not cut
      off in the images may be cut off in others, where the range that they give ends anyway.
    """
    leaves, structure = jax.tree.flatten(jax.tree.map(np.asarray, variables))
    layers = looks.at(variables)
    seen_by = {id(layer): seen for layer, seen in layers}
    used = Counter(leaf for layer, _ in layers for leaf in (layer.kernel, layer.bias))
    used[None] = 0
    for layer, seen in layers:
        before = layer.before
        if before and max(used[leaf] for leaf in (layer.kernel, before.kernel, before.bias)) == 1:
            kernel = leaves[layer.kernel]
            finest = _finest(leaves[before.kernel], seen_by[id(before)].reads)
            factors = _factors(kernel, layer, seen, finest)
            for leaf in (before.kernel, before.bias):
                if leaf is not None:
                    leaves[leaf] = leaves[leaf] * factors
            leaves[layer.kernel] = kernel / _by_group(factors, kernel.shape, layer.groups)
    return jax.tree.unflatten(structure, leaves)


def correct_biases(looks: Looks, variables: Tree) -> Tree:
    """Take the mean that a kernel's rounding adds to each channel out of the bias (section 4.2).

    Args:
      looks: at the network.
      variables: its variables, float32.

    Returns:
      New variables.
    """
    leaves, structure = jax.tree.flatten(jax.tree.map(np.asarray, variables))
    layers = looks.at(variables)
    used = Counter(layer.bias for layer, _ in layers)
    for layer, seen in layers:
        if layer.bias is not None and used[layer.bias] == 1:
            leaves[layer.bias] = leaves[layer.bias] - seen.error
    return jax.tree.unflatten(structure, leaves)


def _look(equation: Any, x: Value, kernel: Array) -> _Seen:
    error = equation.primitive.bind(x.array, _round(kernel) - kernel, **equation.params)
    reads = jnp.abs(x.array).max(range(x.array.ndim - 1))
    peak = reads if x.peak is None else x.peak
    return _Seen(reads, peak, error.mean(range(error.ndim - 1)))


def _round(kernel: Array) -> Array:
    """Round a kernel [..., out] to the steps of its output channels."""
    steps = jnp.abs(kernel).max(range(kernel.ndim - 1), keepdims=True) / _MOST
    steps = jnp.where(steps > 0, steps, 1)
    return jnp.round(kernel / steps) * steps


def _finest(kernel: np.ndarray, reads: Array) -> np.ndarray:
    """Return the smallest range that is of use to each output channel of a layer [out].

    Its steps are those of a product of a step of the input and one of the kernel.
    """
    return np.abs(kernel).max(tuple(range(kernel.ndim - 1))) / _MOST * np.max(reads)


def _factors(kernel: np.ndarray, layer: Layer, seen: _Seen, finest: np.ndarray) -> np.ndarray:
    """Choose the factor of each channel [c] between a layer and the one before it."""
    ranges = np.abs(kernel).max(tuple(range(kernel.ndim - 1)))
    shares = np.abs(kernel) / np.where(ranges > 0, ranges, 1)
    shares = shares.max(tuple(range(kernel.ndim - 2)))  # [in of a group, out]
    groups = shares.reshape(len(shares), layer.groups, -1).max(-1)  # [in of a group, group]
    needs = groups.T.reshape(-1)  # of each channel: the precision with which the kernel has it
    alive = seen.reads > 0
    room = np.where(alive, seen.reads.max() / np.where(alive, seen.reads, 1), 1)
    room = np.sqrt(room * needs)
    of_use = np.maximum(seen.reads.max() / np.maximum(finest, _TINY), 1)
    room = np.clip(room, 1, np.minimum(of_use, _LARGEST_FACTOR))
    if np.isfinite(layer.limit):
        beyond = room * seen.peak > layer.limit
        room = np.where(beyond, layer.limit / np.where(beyond, seen.peak, 1), room)
        room = np.where(seen.peak < layer.limit, room, 1)
    return room.astype(np.float32)


def _by_group(factors: np.ndarray, shape: tuple[int, ...], groups: int) -> np.ndarray:
    """Arrange factors of input channels like a kernel [..., in of a group, out]."""
    of_group = factors.reshape(groups, shape[-2]).T  # [in of a group, group]
    return np.repeat(of_group, shape[-1] // groups, axis=1)
