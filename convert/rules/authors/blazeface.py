"""BlazeFace in PyTorch: short range and back as hollance/BlazeFace-PyTorch has them."""

from convert.layouts import TORCH
from convert.rule import Rule
from convert.rules.mediapipe.blazeface import OPTIONS, PREPROCESSING, SHORT_RANGE_AND_BACK
from convert.rules.units import Names
from flaxmobile.models.blazeface import BlazeFace
from flaxmobile.models.blazeface_tables import ANCHORS

_LISTS = {"mediapipe": (("backbone1", 11), ("backbone2", 5)), "mediapipe_back": (("backbone", 31),)}
"""Variant -> their lists and how many blocks each has; the first begins with stem and ReLU."""


def _modules(model: BlazeFace) -> Names:
    stem, *blocks = model.blocks()
    lists = _LISTS[model.variant]
    theirs = [
        f"{name}.{place + 2 * (index == 0)}.convs"
        for index, (name, count) in enumerate(lists)
        for place in range(count)
    ]
    if model.variant == "mediapipe_back":
        theirs.append("final.convs")
    yield f"{stem.name}/conv", f"{lists[0][0]}.0"
    for block, name in zip(blocks, theirs, strict=True):
        yield f"{block.name}/depthwise/conv", f"{name}.0"
        yield f"{block.name}/project/conv", f"{name}.1"
    for kind, name in (("scores", "classifier"), ("boxes", "regressor")):
        # Theirs are named after the strides of the front model in both.
        for ours, stride in zip(model.table.anchors, ANCHORS, strict=True):
            yield f"{kind}_stride{ours}", f"{name}_{stride}"


RULE = Rule(
    network=BlazeFace,
    layout=TORCH,
    modules=_modules,
    own_options=OPTIONS,
    variants=SHORT_RANGE_AND_BACK,
    preprocessing=PREPROCESSING,
    about={"repository": "hollance/BlazeFace-PyTorch"},
    image_size=lambda model: model.table.image_size,
)
