"""Base classes of networks with a width multiplier, and of those with stochastic depth too."""

import math

from flaxmobile.errors import check_value
from flaxmobile.layers.network import Network
from flaxmobile.layers.rounding import round_channels
from flaxmobile.layers.stages import Place


class ScaledNetwork(Network):
    """A network with a width multiplier.

    Attributes:
      alpha: width multiplier, above 0.
      The others: see `Network`.
    """

    alpha: float = 1.0

    def check_options(self) -> None:
        """Raise InputError for an option that the network does not offer."""
        super().check_options()
        check_value("alpha", self.alpha, 0 < self.alpha < math.inf, "any number above 0")

    def width(self, channels: float) -> int:
        """Scale a width of the paper's table, to a multiple of 8."""
        return round_channels(channels * self.alpha)

    def size_text(self) -> str:
        """Name the size of the network, for messages."""
        return f"alpha {self.alpha} and {super().size_text()}"


class DropPathNetwork(ScaledNetwork):
    """A network that skips blocks with shortcuts for a fraction of the images in training.

    Attributes:
      drop_path_rate: stochastic depth: block i of n after the stem has the rate times i / n, from
        0, as in timm.
      The others: see `ScaledNetwork`.
    """

    drop_path_rate: float = 0.0

    def check_options(self) -> None:
        """Raise InputError for an option that the network does not offer."""
        super().check_options()
        rate = self.drop_path_rate
        check_value("drop_path_rate", rate, 0 <= rate < 1, "0 or more, below 1")

    def drop_path_rate_of(self, place: Place) -> float:
        """Return the rate of a block, with or without a shortcut."""
        _, *names = (block.name for block in self.blocks())
        return self.drop_path_rate * names.index(place.name) / len(names)
