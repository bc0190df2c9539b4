"""ShuffleNet V2 of its authors: `ShuffleNetV2` of megvii-model/ShuffleNet-Series."""

from convert.layouts import TORCH
from convert.rule import Rule
from convert.rules.authors.megvii import ABOUT, PREPROCESSING, named_units
from convert.rules.units import Names, listed, sequential
from convert.rules.widths import shufflenet_v2_widths
from flaxmobile.models.shufflenet_v2 import ShuffleNetV2

_MAIN = (
    ("pointwise1", "branch_main", 0),
    ("depthwise", "branch_main", 3),
    ("pointwise2", "branch_main", 5),
)
_SHORTCUT = (("shortcut_depthwise", "branch_proj", 0), ("shortcut_pointwise", "branch_proj", 2))
LAYERS = (*_MAIN, *_SHORTCUT)
"""Our layer of a unit of stride 2, their branch, its place there."""


def _modules(model: ShuffleNetV2) -> Names:
    yield from sequential("stem", "first_conv")
    for unit, theirs in named_units(model.blocks()):
        for layer, branch, place in LAYERS if unit.stride == 2 else _MAIN:
            yield from listed(f"{unit.name}/{layer}", f"{theirs}.{branch}", place)
    yield from sequential("head", "conv_last")
    yield "classifier", "classifier.0"


RULE = Rule(
    network=ShuffleNetV2,
    layout=TORCH,
    modules=_modules,
    own_options={"variant": "megvii"},
    widths=shufflenet_v2_widths,
    preprocessing=PREPROCESSING,
    about=ABOUT,
    variants=tuple({"alpha": alpha} for alpha in (1.0, 0.5, 1.5, 2.0)),
)
