"""timm's MobileNet V2: `mobilenetv2_035` to `_140`, and the deeper `mobilenetv2_110d`, `_120d`."""

from convert.layouts import TORCH
from convert.rule import Rule
from convert.rules.timm.blocks import inverted_residuals
from convert.rules.timm.files import preset, published
from convert.rules.widths import mobilenet_v2_widths
from flaxmobile.models.mobilenet_v2 import MobileNetV2

_BICUBIC = preset(interpolation="bicubic")


RULE = Rule(
    network=MobileNetV2,
    layout=TORCH,
    modules=inverted_residuals,
    own_options={"norm_momentum": 0.9},
    variants=(
        {"depth": 1.0, "fixed_ends": False},
        {"depth": 1.2, "fixed_ends": True},
        {"depth": 1.4, "fixed_ends": True},
    ),
    widths=mobilenet_v2_widths,
    preprocessing=_BICUBIC,
    published=(
        published("mobilenetv2_100.ra_in1k", 3_504_872, _BICUBIC, "mobilenetv2_100_ra-b33bc2c4"),
        published("mobilenetv2_050.lamb_in1k", 1_968_680, _BICUBIC, "mobilenetv2_050-3d30d450"),
        published("mobilenetv2_110d.ra_in1k", 4_516_520, _BICUBIC, "mobilenetv2_110d_ra-77090ade"),
        published("mobilenetv2_120d.ra_in1k", 5_831_144, _BICUBIC, "mobilenetv2_120d_ra-5987e2ed"),
        published("mobilenetv2_140.ra_in1k", 6_108_776, _BICUBIC, "mobilenetv2_140_ra-21a4e913"),
    ),
)
