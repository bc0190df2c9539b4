"""timm's Inception-v4."""

from convert.layouts import TORCH
from convert.rule import Rule
from convert.rules.timm.files import HALF, preset, published
from convert.rules.units import Names, basic_conv, branches
from flaxmobile.layers import Unit
from flaxmobile.models.inception_v4 import InceptionV4

_BESIDE_POOLING = ("mixed3a", "mixed5a")
"""Modules with a single convolution, which is an attribute."""


def _modules(model: InceptionV4) -> Names:
    for index, block in enumerate(model.blocks()):
        theirs = f"features.{index}"
        if isinstance(block.row, Unit):
            yield from basic_conv(block.name, theirs)
        elif block.name in _BESIDE_POOLING:
            yield from basic_conv(f"{block.name}/conv3x3", f"{theirs}.conv")
        else:
            yield from branches(block.name, theirs, block.row)
    yield "classifier", "last_linear"


_PRESET = preset(299, mean=HALF, std=HALF, interpolation="bicubic")

RULE = Rule(
    network=InceptionV4,
    layout=TORCH,
    modules=_modules,
    own_options={"alpha": 1.0},
    preprocessing=_PRESET,
    published=(published("inception_v4.tf_in1k", 42_679_816, _PRESET),),
)
