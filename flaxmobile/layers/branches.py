"""Inception modules as data: branches of convolutions and pooling side by side."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from flaxmobile.layers.conv import ConvNorm
from flaxmobile.layers.pooling import avg_pool
from flaxmobile.layers.rows import Max, Unit


class Fork(NamedTuple):
    """Units that all read the same map; their outputs are concatenated."""

    units: tuple[Unit, ...]


class Mean(NamedTuple):
    """Average of 3×3 neighbours, stride 1.

    Attributes:
      count_padding: count padded pixels, as PyTorch does, unless the network pads as TensorFlow
        does.
    """

    count_padding: bool = True


Branch = tuple[Unit | Fork | Mean | Max, ...]
"""Layers that follow each other."""
Module = tuple[Branch, ...]
"""Parallel branches, whose outputs are concatenated."""


def scale(row: Any, width: Callable[[int], int]) -> Any:
    """Scale the output channels of a unit, of a branch, or of a whole module."""
    match row:
        case Unit():
            return row._replace(features=width(row.features))
        case Fork(units):
            return Fork(scale(units, width))
        case Mean() | Max():
            return row
        case tuple():
            return tuple(scale(layer, width) for layer in row)
    return row  # without channels of its own


class Branches(nn.Module):
    """Apply each branch to the same map and concatenate their outputs.

    Attributes:
      branches: the module's branches.
      count_padding: whether averages may count padded pixels, see `Mean`.
      unit: convolution, normalization and activation, with the network's options bound.
    """

    branches: Module
    count_padding: bool = True
    unit: Callable[..., nn.Module] = ConvNorm

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """Map x [n, h, w, c] to [n, h', w', c'], where c' is the sum of the branches' channels."""
        outputs = []
        for branch in self.branches:
            y = x
            for layer in branch:
                y = self._apply(layer, y, train)
            outputs.append(y)
        return jnp.concatenate(outputs, axis=-1)

    def _apply(self, layer: Unit | Fork | Mean | Max, x: Array, train: bool) -> Array:
        match layer:
            case Mean(count_padding):
                return avg_pool(x, 3, count_padding=count_padding and self.count_padding)
            case Max():
                return layer(x)
            case Fork(units):
                return jnp.concatenate([self._apply(u, x, train) for u in units], axis=-1)
        y: Array = layer.make(self.unit)(x, train)
        return y
