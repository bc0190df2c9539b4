"""BlazeFace in PyTorch: MediaPipe's two models as hollance/BlazeFace-PyTorch has them."""

from collections.abc import Iterator

from convert.layouts import TORCH
from convert.rule import Options, Rule
from convert.rules.mediapipe.blazeface import (
    OPTIONS,
    PREPROCESSING,
    VARIANTS,
    heads,
    image_size,
    size,
)
from flaxmobile.models import blazeface

_LISTS = {"mediapipe": (("backbone1", 11), ("backbone2", 5)), "mediapipe_back": (("backbone", 31),)}
"""Variant -> their lists and how many blocks each has; the first begins with stem and ReLU."""


def _modules(options: Options) -> Iterator[tuple[str, str]]:
    variant = options["variant"]
    theirs = [
        f"{name}.{place + 2 * (index == 0)}.convs"
        for index, (name, count) in enumerate(_LISTS[variant])
        for place in range(count)
    ]
    if variant == "mediapipe_back":
        theirs.append("final.convs")
    yield "stem/conv", f"{_LISTS[variant][0][0]}.0"
    for number, block in enumerate(theirs, start=1):
        yield f"block{number}/depthwise/conv", f"{block}.0"
        yield f"block{number}/project/conv", f"{block}.1"
    for kind, name in (("scores", "classifier"), ("boxes", "regressor")):
        # Theirs are named after the strides of the front model in both.
        for stride, ours in zip(blazeface.ANCHORS, heads(variant, kind), strict=True):
            yield ours, f"{name}_{stride}"


BLAZEFACE = Rule(
    layout=TORCH,
    modules=_modules,
    own_options=OPTIONS,
    variants=VARIANTS,
    preprocessing=PREPROCESSING,
    about={"repository": "hollance/BlazeFace-PyTorch"},
    image_size=image_size,
    size=size,
)
