"""Feature maps by name: outputs of blocks, and of units inside them."""

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from jax import Array

from flaxmobile.errors import unknown
from flaxmobile.layers.stages import Place


def block_of(tap: str) -> str:
    """Return the block that a tap such as "stage6_block1/expand" lies in."""
    return tap.partition("/")[0]


def tapped(unit: Callable[..., Any], block: str, outputs: dict[str, Array]) -> Callable[..., Any]:
    """Wrap a unit's constructor: each unit also stores its output, by its path in the block."""

    def make(*arguments: Any, **options: Any) -> Callable[..., Array]:
        layer = unit(*arguments, **options)

        def call(x: Array, train: bool = False) -> Array:
            y: Array = layer(x, train)
            path = layer.path[layer.path.index(block) + 1 :] if block in layer.path else layer.path
            outputs["/".join(path)] = y
            return y

        return call

    return make


@dataclasses.dataclass
class Maps:
    """Feature maps of the blocks that have run.

    Attributes:
      by_name: output of each block, and of each unit inside a tapped block, in order.
      by_stride: last map of each stride.
    """

    by_name: dict[str, Array] = dataclasses.field(default_factory=dict)
    by_stride: dict[int, Array] = dataclasses.field(default_factory=dict)

    @property
    def last(self) -> Array:
        """The map of the deepest stride."""
        return self.by_stride[max(self.by_stride)]

    def add(self, place: Place, x: Array, units: dict[str, Array]) -> None:
        """Record the output of a block, and those of the tapped units inside it."""
        self.by_name |= {f"{place.name}/{name}": y for name, y in units.items()}
        self.by_name[place.name] = x
        if place.endpoint:
            self.by_stride[place.geometry.total] = x

    def pick(self, strides: Sequence[int], taps: Sequence[str]) -> dict[Any, Array]:
        """Select the maps of these strides and taps.

        Returns:
          {stride or tap: map}, in this order. With taps it is an `OrderedDict`: JAX sorts the keys
          of a plain dictionary, and numbers and names have no common order.

        Raises:
          InputError: a tapped block has no such unit; lists those that it has.
        """
        picked: dict[Any, Array] = {stride: self.by_stride[stride] for stride in strides}
        if taps:
            picked = OrderedDict(picked)
        for tap in taps:
            if tap not in self.by_name:
                offered = [name for name in self.by_name if block_of(name) == block_of(tap)]
                raise unknown("tap", tap, offered)
            picked[tap] = self.by_name[tap]
        return picked
