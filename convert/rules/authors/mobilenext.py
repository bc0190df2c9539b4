"""MobileNeXt of its authors: `mnext` of yitu-opensource/MobileNeXt."""

from convert.layouts import TORCH
from convert.rule import Rule
from convert.rules.units import Names, listed, sequential
from convert.rules.widths import mobilenext_widths
from flaxmobile.models.mobilenext import STEM_CHANNELS, MobileNeXt, has_depthwise
from flaxmobile.preprocessing import Preprocessing

_SLOTS = {"depthwise1": 3, "reduce": 2, "expand": 3, "depthwise2": 2}
"""Layer of a block -> its convolution, normalization and, where it has one, ReLU6 in a list."""


def _modules(model: MobileNeXt) -> Names:
    stem, *blocks = model.blocks()
    yield from sequential(stem.name, "features.0")
    channels = model.width(STEM_CHANNELS)
    for index, block in enumerate(blocks, start=1):
        row = block.row
        first, last = has_depthwise(
            channels, row.channels, row.reduction, block.stride, row.keep_3x3
        )
        place = 0
        for layer in ("depthwise1",) * first + ("reduce", "expand") + ("depthwise2",) * last:
            yield from listed(f"{block.name}/{layer}", f"features.{index}.conv", place)
            place += _SLOTS[layer]
        channels = row.channels
    yield "classifier", "classifier.1"


RULE = Rule(
    network=MobileNeXt,
    layout=TORCH,
    modules=_modules,
    widths=mobilenext_widths,
    # The preset of the timm of that time, with which they trained and measured.
    preprocessing=Preprocessing(resize_size=256, interpolation="bicubic"),
    about={"repository": "yitu-opensource/MobileNeXt"},
)
