"""timm's MobileNet V1 (`mobilenetv1_100`, `mobilenetv1_100h`, `mobilenetv1_125`)."""

from convert.layouts import TORCH
from convert.rule import Rule
from convert.rules.timm.blocks import place_of
from convert.rules.timm.files import HALF, preset, published
from convert.rules.units import Names, unit
from convert.rules.widths import mobilenet_v1_widths
from flaxmobile.models.mobilenet_v1 import MobileNetV1


def _modules(model: MobileNetV1) -> Names:
    stem, *blocks = model.blocks()
    yield from unit(stem.name, "", "conv_stem", "bn1")
    for block in blocks:
        theirs = place_of(block)
        yield from unit(f"{block.name}/depthwise", theirs, ".conv_dw", ".bn1")
        yield from unit(f"{block.name}/pointwise", theirs, ".conv_pw", ".bn2")
    if model.head_convolution:
        yield from unit("head", "", "conv_head", "bn2")
    yield "classifier", "classifier"


_PRESET = preset(mean=HALF, std=HALF, interpolation="bicubic")
_CLOSER = preset(crop=0.9, mean=HALF, std=HALF, interpolation="bicubic")

RULE = Rule(
    network=MobileNetV1,
    layout=TORCH,
    modules=_modules,
    own_options={"padding": "symmetric", "norm_epsilon": 1e-5, "norm_momentum": 0.9},
    variants=({"head_convolution": False}, {"head_convolution": True}),
    widths=mobilenet_v1_widths,
    preprocessing=_PRESET,
    published=(
        published("mobilenetv1_100.ra4_e3600_r224_in1k", 4_231_976, _PRESET),
        published("mobilenetv1_100h.ra4_e3600_r224_in1k", 5_282_600, _PRESET),
        published("mobilenetv1_125.ra4_e3600_r224_in1k", 6_270_840, _CLOSER),
    ),
)
