"""torchvision's MNASNet."""

from convert.layouts import TORCH
from convert.rule import Rule
from convert.rules.torchvision.files import CLOSER, STANDARD, published
from convert.rules.units import Names, listed
from convert.rules.widths import mnasnet_widths
from flaxmobile.models.mnasnet import MnasNet

_FIRST_STACK = 8
"""Index of stage 2 in `layers`: the layers of the stem and of stage 1 come before it, flat."""


def _modules(model: MnasNet) -> Names:
    stem, first, *blocks = model.blocks()
    flat = (stem.name, f"{first.name}/depthwise", f"{first.name}/project")
    for ours, place in zip(flat, (0, 3, 6), strict=True):
        yield from listed(ours, "layers", place)
    stack = _FIRST_STACK - 1
    for block in blocks:
        number = block.name.rpartition("_block")[2]
        stack += number == "1"
        theirs = f"layers.{stack}.{int(number) - 1}.layers"
        for layer, place in (("expand", 0), ("depthwise", 3), ("project", 6)):
            yield from listed(f"{block.name}/{layer}", theirs, place)
    yield from listed("head", "layers", stack + 1)
    yield "classifier", "classifier.1"


RULE = Rule(
    network=MnasNet,
    layout=TORCH,
    version=2,  # 1 had other widths below alpha 1
    modules=_modules,
    widths=mnasnet_widths,
    preprocessing=STANDARD,
    published=(
        published(
            "mnasnet1_0.IMAGENET1K_V1", "mnasnet1.0_top1_73.512-f206786ef8", 4_383_312, 73.456
        ),
        published(
            "mnasnet0_5.IMAGENET1K_V1",
            "mnasnet0.5_top1_67.823-3ffadce67e",
            2_218_512,
            67.734,
            alpha=0.5,
        ),
        published(
            "mnasnet0_75.IMAGENET1K_V1", "mnasnet0_75-7090bc5f", 3_170_208, 71.18, CLOSER, 0.75
        ),
        published(
            "mnasnet1_3.IMAGENET1K_V1", "mnasnet1_3-a4c69d6f", 6_282_256, 76.506, CLOSER, 1.3
        ),
    ),
)
