"""What each origin calls its tensors, one module per origin."""

from convert.rule import Rule
from convert.rules import torchvision

RULES: dict[tuple[str, str], Rule] = {
    ("torchvision", "mobilenet_v2"): torchvision.MOBILENET_V2,
}
"""(origin, registered name of the network) -> how that origin stores it."""
