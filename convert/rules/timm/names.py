"""timm's names of its networks: those that are ours too, and the others of these families."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple


class Family(NamedTuple):
    """Networks of one table, which differ in width.

    Attributes:
      origin: "timm" or "timm-tf".
      model: registered name of the network.
      name: timm's, with {width} for 100 times alpha.
      widths: those that timm has; none for a network of one width.
      options: that tell them from the model's other families.
    """

    origin: str
    model: str
    name: str
    widths: tuple[str, ...] = ()
    options: Mapping[str, Any] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """timm's names of its networks."""
        return tuple(self.name.format(width=width) for width in self.widths) or (self.name,)


_HALF_TO_140 = ("050", "075", "100", "140")
_V4_SMALL = {"variant": "small"}

FAMILIES = (
    *(
        Family("timm", "mobilenet_v1", name, widths, {"head_convolution": head_convolution})
        for name, widths, head_convolution in (
            ("mobilenetv1_{width}", ("100", "125"), False),
            ("mobilenetv1_{width}h", ("100",), True),
        )
    ),
    *(
        Family("timm", "mobilenet_v2", name, widths, {"depth": depth, "fixed_ends": depth > 1})
        for name, widths, depth in (
            ("mobilenetv2_{width}", ("035", *_HALF_TO_140), 1.0),
            ("mobilenetv2_{width}d", ("110",), 1.2),
            ("mobilenetv2_{width}d", ("120",), 1.4),
        )
    ),
    Family("timm", "mobilenet_v3_large", "mobilenetv3_large_{width}", ("075", "100")),
    Family("timm", "mobilenet_v3_small", "mobilenetv3_small_{width}", ("050", "075", "100")),
    *(
        Family("timm-tf", f"mobilenet_v3_{size}", f"tf_mobilenetv3_{size}{name}", widths, options)
        for size in ("large", "small")
        for name, widths, options in (
            ("_{width}", ("075", "100"), {"minimalistic": False}),
            ("_minimal_{width}", ("100",), {"minimalistic": True}),
        )
    ),
    Family("timm", "mobilenet_v4", "mobilenetv4_conv_small_{width}", ("035", "050"), _V4_SMALL),
    *(
        Family(
            "timm",
            "mobilenet_v4",
            f"mobilenetv4_conv_{size}",
            options={"variant": size, "alpha": 1.0},
        )
        for size in ("small", "medium", "large")
    ),
    Family("timm", "mnasnet", "mnasnet_{width}", _HALF_TO_140, {"variant": "b1"}),
    Family("timm", "mnasnet", "semnasnet_{width}", _HALF_TO_140, {"variant": "a1"}),
    Family("timm", "mnasnet", "mnasnet_small", options={"variant": "small", "alpha": 1.0}),
    Family("timm", "inception_v3", "inception_v3"),
    Family("timm", "inception_v4", "inception_v4"),
    Family("timm", "inception_resnet_v2", "inception_resnet_v2"),
    Family("timm", "xception", "legacy_xception"),
)

_FORMER = {
    "mnasnet_a1": "semnasnet_100",
    "mnasnet_b1": "mnasnet_100",
    "xception": "legacy_xception",
}
"""timm's earlier name of a network -> its name today."""

OTHERS = {
    "mobilenetv3_rw": "its squeeze-excite and its head are not those of the paper's network",
    "mobilenetv3_large_150d": "it also repeats its first block and its last convolution",
    r"mobilenet_edgetpu_.*": "it is built of other blocks, with whole convolutions",
    r"mobilenetv4_hybrid_.*": "it has attention, which no network of flaxmobile has",
    r"mobilenetv4_conv_(aa|blur)_.*": "it blurs before it shrinks",
    r"mobilenetv5_.*": "a later network, which flaxmobile does not have",
    r"xception(41|65|71)p?": "DeepLab's aligned Xception, another network than the paper's",
    r"inception_next_.*": "a ConvNeXt, no Inception network",
}
"""Pattern of timm's names of networks that sound like ours -> the difference."""


def architecture_of(origin: str, model: str, options: Mapping[str, Any]) -> str | None:
    """Return timm's name of a network; None if timm has none of that width and variant.

    Args:
      origin: "timm" or "timm-tf".
      model: registered name of the network.
      options: of `create_model`, all that tell timm's networks apart.
    """
    width = f"{round(100 * options.get('alpha', 1.0)):03d}"
    for family in FAMILIES:
        own = (family.origin, family.model) == (origin, model)
        fits = all(options.get(name) == value for name, value in family.options.items())
        name = family.name.format(width=width)
        if own and fits and name in family.names:
            return name
    return None


def find_architecture(name: str) -> tuple[str, str] | None:
    """Return origin and registered name of a network of timm's; None for any other network."""
    name = _FORMER.get(name, name)
    found = ((each.origin, each.model) for each in FAMILIES if name in each.names)
    return next(found, None)


def difference_of(name: str) -> str | None:
    """Return the difference of a network of timm's from the one of ours that it sounds like."""
    return next((why for how, why in OTHERS.items() if re.fullmatch(how, name)), None)
