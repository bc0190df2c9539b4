"""timm's convolutional MobileNet V4 (`mobilenetv4_conv_small`, `_medium`, `_large`)."""

from convert.layouts import TORCH
from convert.rule import Rule
from convert.rules.timm.blocks import place_of
from convert.rules.timm.files import HALF, preset, published
from convert.rules.units import Names, basic_conv, unit
from convert.rules.widths import mobilenet_v4_widths
from flaxmobile.layers import Unit
from flaxmobile.models.mobilenet_v4 import MobileNetV4
from flaxmobile.models.mobilenet_v4_tables import Fused
from flaxmobile.preprocessing import Preprocessing

_LAYERS = {"start": "dw_start", "expand": "pw_exp", "depthwise": "dw_mid", "project": "pw_proj"}


def _modules(model: MobileNetV4) -> Names:
    stem, *blocks = model.blocks()
    yield from unit(stem.name, "", "conv_stem", "bn1")
    for block in blocks:
        theirs, row = place_of(block), block.row
        if isinstance(row, Unit):
            yield from unit(block.name, theirs, ".conv", ".bn1")
        elif isinstance(row, Fused):
            yield from unit(f"{block.name}/expand", theirs, ".conv_exp", ".bn1")
            yield from unit(f"{block.name}/project", theirs, ".conv_pwl", ".bn2")
        else:
            absent = {"start"} if not row.start else set()
            absent |= {"depthwise"} if not row.middle else set()
            for layer, name in _LAYERS.items():
                if layer not in absent:
                    yield from basic_conv(f"{block.name}/{layer}", f"{theirs}.{name}")
    yield from unit("head", "", "conv_head", "norm_head")
    yield "classifier", "classifier"


def _preset(size: int, crop: float = 0.95) -> Preprocessing:
    return preset(size, crop, interpolation="bicubic")


_CROPPED = preset(interpolation="bicubic")
_HALVES = preset(mean=HALF, std=HALF, interpolation="bicubic")
_HALVES_256 = preset(256, 0.95, mean=HALF, std=HALF, interpolation="bicubic")
_SMALL = "mobilenetv4_conv_small"
_MEDIUM = "mobilenetv4_conv_medium"
_LARGE = "mobilenetv4_conv_large"

RULE = Rule(
    network=MobileNetV4,
    layout=TORCH,
    modules=_modules,
    own_options={"norm_momentum": 0.9},
    variants=({"variant": "small"}, {"variant": "medium"}, {"variant": "large"}),
    widths=mobilenet_v4_widths,
    preprocessing=_CROPPED,
    published=(
        published(f"{_SMALL}.e2400_r224_in1k", 3_774_024, _CROPPED),
        published(f"{_SMALL}.e1200_r224_in1k", 3_774_024, _CROPPED),
        published(f"{_SMALL}.e3600_r256_in1k", 3_774_024, _HALVES_256),
        published(f"{_SMALL}_050.e3000_r224_in1k", 2_238_952, _HALVES),
        published(f"{_MEDIUM}.e500_r256_in1k", 9_715_512, _preset(256)),
        published(f"{_MEDIUM}.e500_r224_in1k", 9_715_512, _preset(224)),
        published(f"{_MEDIUM}.e250_r384_in12k_ft_in1k", 9_715_512, _preset(384)),
        published(f"{_MEDIUM}.e250_r384_in12k", 23_577_213, _preset(384, 1.0)),
        published(f"{_MEDIUM}.e180_r384_in12k", 23_577_213, _preset(384, 1.0)),
        published(f"{_MEDIUM}.e180_ad_r384_in12k", 23_577_213, _preset(384, 1.0)),
        published(f"{_LARGE}.e600_r384_in1k", 32_590_864, _preset(384)),
        published(f"{_LARGE}.e500_r256_in1k", 32_590_864, _preset(256)),
    ),
)
