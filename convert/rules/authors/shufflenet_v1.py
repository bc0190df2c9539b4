"""ShuffleNet of its authors: `ShuffleNetV1` of megvii-model/ShuffleNet-Series."""

from convert.layouts import TORCH
from convert.rule import Rule
from convert.rules.authors.megvii import ABOUT, PREPROCESSING, named_units
from convert.rules.units import Names, listed, sequential
from convert.rules.widths import shufflenet_v1_widths
from flaxmobile.models.shufflenet_v1 import ShuffleNetV1

LAYERS = (
    ("reduce", "branch_main_1", 0),
    ("depthwise", "branch_main_1", 3),
    ("expand", "branch_main_2", 0),
)
"""Our layer of a unit, their branch, its place there."""


def _modules(model: ShuffleNetV1) -> Names:
    yield from sequential("stem", "first_conv")
    for unit, theirs in named_units(model.blocks()):
        for layer, branch, place in LAYERS:
            yield from listed(f"{unit.name}/{layer}", f"{theirs}.{branch}", place)
    yield "classifier", "classifier.0"


RULE = Rule(
    network=ShuffleNetV1,
    layout=TORCH,
    modules=_modules,
    own_options={"variant": "megvii"},
    widths=shufflenet_v1_widths,
    preprocessing=PREPROCESSING,
    about=ABOUT,
    variants=tuple(
        {"groups": groups, "alpha": alpha} for groups in (3, 8) for alpha in (1.0, 0.5, 1.5, 2.0)
    ),
)
