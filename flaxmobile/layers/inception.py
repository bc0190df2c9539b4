"""What the Inception networks share: tables whose rows are units, pooling and branches."""

from typing import ClassVar

from flaxmobile.layers.backbone import Layer, MakeUnit
from flaxmobile.layers.branches import Branches, Unit, scale
from flaxmobile.layers.network import ScaledNetwork
from flaxmobile.layers.rounding import thin_channels
from flaxmobile.layers.stages import Block, Place


def unit_block(
    name: str,
    features: int,
    kernel: int | tuple[int, int] = 1,
    stride: int = 1,
    valid: bool = False,
) -> Block:
    """Make the row of a table that is a unit of its own, see `Unit`."""
    return Block(name, Unit(name, features, kernel, stride, valid), stride)


class InceptionNetwork(ScaledNetwork):
    """A network whose rows are `Unit`, functions without parameters, and branches.

    Attributes:
      alpha: width multiplier, above 0; no layer is thinner than 16 channels.
      The others: see `Network`. `output_stride` is 32.
    """

    norm_epsilon: float = 1e-3

    dilates: ClassVar[bool] = False

    def width(self, channels: float) -> int:
        """Scale a width of the paper's table, to at least 16."""
        return thin_channels(channels, self.alpha)

    def build(self, place: Place, unit: MakeUnit) -> Layer:
        """Make the layer of a row."""
        if callable(place.row):
            function: Layer = place.row
            return function
        row = scale(place.row, self.width)
        if isinstance(row, Unit):
            layer: Layer = row.make(unit)
            return layer
        return Branches(row, self.padding != "same", unit, name=place.name)
