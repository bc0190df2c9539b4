"""Base class of the Inception networks: tables whose rows are units, pooling and branches."""

from collections.abc import Iterable
from typing import Any, ClassVar

from jax import Array

from flaxmobile.errors import check_value
from flaxmobile.layers.backbone import Layer, MakeUnit
from flaxmobile.layers.branches import Branches, scale
from flaxmobile.layers.inputs import to_symmetric_range
from flaxmobile.layers.rounding import thin_channels
from flaxmobile.layers.scaled import ScaledNetwork
from flaxmobile.layers.stages import Block, Place


class InceptionNetwork(ScaledNetwork):
    """A network whose rows are units, branches, or functions without parameters.

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
        """Make the layer of a row of branches."""
        return Branches(place.row, self.padding != "same", unit, name=place.name)

    def scaled(self, table: Iterable[Block]) -> list[Block]:
        """Scale all rows of a table to the network's width."""
        return [block._replace(row=self.scale(block.row)) for block in table]

    def scale(self, row: Any) -> Any:
        """Scale a row to the network's width."""
        return scale(row, self.width)


class TransformingInception(InceptionNetwork):
    """A network that can take images as torchvision normalizes them.

    Attributes:
      transform_input: take images normalized by ImageNet's statistics for weights that were trained
        on -1..1.
      The others: see `InceptionNetwork`.
    """

    transform_input: bool = False

    def check_options(self) -> None:
        """Raise InputError for an option that the network does not offer."""
        super().check_options()
        fine = self.in_channels == 3 or not self.transform_input
        check_value("in_channels", self.in_channels, fine, "3 with transform_input")

    def check_images(self, images: Array) -> Array:
        """Raise InputError for wrong images; return them in dtype, in the range of the weights."""
        x = super().check_images(images)
        return to_symmetric_range(images).astype(self.dtype) if self.transform_input else x
