"""What each origin calls its tensors: one package per origin, one module per network."""

from convert.rule import Rule
from convert.rules.torchvision.mobilenet_v2 import MOBILENET_V2

RULES: dict[tuple[str, str], Rule] = {
    ("torchvision", "mobilenet_v2"): MOBILENET_V2,
}
"""(origin, registered name of the network) -> how that origin stores it."""
