"""Base class of the networks that offer stochastic depth."""

from flaxmobile.errors import check_value
from flaxmobile.layers.network import ScaledNetwork
from flaxmobile.layers.stages import Place


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
