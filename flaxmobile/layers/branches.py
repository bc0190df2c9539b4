"""Branches side by side, written as data: the form of the later Inception modules."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from flaxmobile.layers.activations import relu
from flaxmobile.layers.conv import ConvNorm
from flaxmobile.layers.pooling import avg_pool, max_pool
from flaxmobile.layers.rounding import thin_channels


class Unit(NamedTuple):
    """Convolution, normalization and ReLU.

    Attributes:
      name: of its parameters.
      features: output channels, before the width multiplier.
      kernel: one number, or (height, width).
      stride: with 2 it pads nothing.
      valid: pad nothing at stride 1 either.
    """

    name: str
    features: int
    kernel: int | tuple[int, int] = 1
    stride: int = 1
    valid: bool = False


class Fork(NamedTuple):
    """Units that all read the same map; their outputs are concatenated."""

    units: tuple[Unit, ...]


MEAN = "mean of 3x3"
SHRINK = "maximum of 3x3, stride 2"
Layer = Unit | Fork | str
Branch = tuple[Layer, ...]


class Branches(nn.Module):
    """Apply each branch to the same map and concatenate what they give.

    Attributes:
      branches: sequences of units, `Fork`, `MEAN` (3×3 over the pixels of the image, stride 1) and
        `SHRINK` (no padding).
      alpha: width multiplier.
      conv: the convolution unit, with the network's options bound.
    """

    branches: tuple[Branch, ...]
    alpha: float = 1.0
    conv: Callable[..., nn.Module] = ConvNorm

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

    def _apply(self, layer: Layer, x: Array, train: bool) -> Array:
        if layer == MEAN:
            return avg_pool(x, 3, count_padding=False)
        if layer == SHRINK:
            return max_pool(x, 3, 2, "VALID")
        if isinstance(layer, Fork):
            return jnp.concatenate([self._apply(unit, x, train) for unit in layer.units], axis=-1)
        assert isinstance(layer, Unit)
        crop = {"padding": "VALID"} if layer.valid or layer.stride == 2 else {}
        unit = self.conv(
            thin_channels(layer.features, self.alpha),
            layer.kernel,
            stride=layer.stride,
            activation=relu,
            name=layer.name,
            **crop,
        )
        y: Array = unit(x, train)
        return y
