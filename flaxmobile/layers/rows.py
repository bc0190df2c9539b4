"""Rows for the tables of all networks: single units, and pooling."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jax import Array

from flaxmobile.layers.activations import Activation, relu
from flaxmobile.layers.pooling import max_pool
from flaxmobile.layers.stages import Block
from flaxmobile.ops import Padding


class Unit(NamedTuple):
    """Convolution, normalization and activation.

    Attributes:
      name: of its parameters.
      features: output channels.
      kernel: one number, or (height, width).
      stride: of both axes.
      valid: pad nothing.
      activation: applied last.
    """

    name: str
    features: int
    kernel: int | tuple[int, int] = 1
    stride: int = 1
    valid: bool = False
    activation: Activation = relu

    def make(self, unit: Callable[..., Any]) -> Any:
        """Make the layer."""
        return unit(
            self.features,
            self.kernel,
            stride=self.stride,
            activation=self.activation,
            name=self.name,
            **({"padding": "VALID"} if self.valid else {}),
        )


class Max(NamedTuple):
    """Maximum under a window, see `max_pool`."""

    size: int = 3
    stride: int = 2
    padding: Padding = "VALID"
    ceil_mode: bool = False

    def __call__(self, x: Array) -> Array:
        """Pool x [n, h, w, c] to [n, h', w', c]."""
        return max_pool(x, *self)


def unit_block(
    name: str,
    features: int,
    kernel: int | tuple[int, int] = 1,
    stride: int = 1,
    valid: bool = False,
    activation: Activation = relu,
) -> Block:
    """Make a block that is a single unit, such as a stem: see `Unit`."""
    return Block(name, Unit(name, features, kernel, stride, valid, activation), stride)
