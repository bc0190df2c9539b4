"""timm's names of its networks, and the widths that it has."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple


class Family(NamedTuple):
    """Networks of one table, which differ in width.

    Attributes:
      name: with {width} for 100 times alpha, and {minimal}, which is empty or "_minimal".
      widths: those that timm has, none for a network of one width.
    """

    name: str
    widths: tuple[str, ...] = ()


FAMILIES: Mapping[tuple[str, str], Family] = {
    ("timm", "mobilenet_v1"): Family("mobilenetv1_{width}", ("100", "125")),
    ("timm", "mobilenet_v2"): Family("mobilenetv2_{width}", ("035", "050", "075", "100", "140")),
    ("timm", "mobilenet_v3_large"): Family("mobilenetv3_large_{width}", ("075", "100")),
    ("timm", "mobilenet_v3_small"): Family("mobilenetv3_small_{width}", ("050", "075", "100")),
    ("timm-tf", "mobilenet_v3_large"): Family(
        "tf_mobilenetv3_large{minimal}_{width}", ("075", "100")
    ),
    ("timm-tf", "mobilenet_v3_small"): Family(
        "tf_mobilenetv3_small{minimal}_{width}", ("075", "100")
    ),
    ("timm", "mnasnet"): Family("mnasnet_{width}", ("050", "075", "100", "140")),
    ("timm", "inception_v3"): Family("inception_v3"),
    ("timm", "inception_v4"): Family("inception_v4"),
    ("timm", "inception_resnet_v2"): Family("inception_resnet_v2"),
    ("timm", "xception"): Family("legacy_xception"),
}
"""(origin, registered name of the network) -> timm's names."""


def architecture_of(origin: str, model: str, options: Mapping[str, Any]) -> str | None:
    """Return timm's name of a network; None if timm has none of that width.

    Args:
      origin: "timm" or "timm-tf".
      model: registered name of the network.
      options: of `create_model`, all that tell timm's networks apart.
    """
    family = FAMILIES.get((origin, model))
    if family is None:
        return None
    width = f"{round(100 * options.get('alpha', 1.0)):03d}"
    minimal = "_minimal" if options.get("minimalistic") else ""
    if family.widths and (width not in family.widths or (minimal and width != "100")):
        return None
    return family.name.format(width=width, minimal=minimal)


def find_architecture(name: str) -> tuple[str, str] | None:
    """Return origin and registered name of a network of timm's; None for any other network."""
    for (origin, model), family in FAMILIES.items():
        pattern = family.name.format(width=r"\d{3}", minimal="(_minimal)?")
        if re.fullmatch(pattern, name) or name == family.name.removeprefix("legacy_"):
            return origin, model
    return None
