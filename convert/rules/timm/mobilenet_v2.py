"""timm's MobileNet V2 (`mobilenetv2_035` to `mobilenetv2_140`).

The deeper ones, `mobilenetv2_110d` and `mobilenetv2_120d`, have more blocks than our network.
"""

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
    own_options={
        "padding": "symmetric",
        "norm_epsilon": 1e-5,
        "norm_momentum": 0.9,
        "shortcut": "bottleneck",
        "linear": True,
    },
    widths=mobilenet_v2_widths,
    preprocessing=_BICUBIC,
    published=(
        published("mobilenetv2_100.ra_in1k", 3_504_872, _BICUBIC, "mobilenetv2_100_ra-b33bc2c4"),
        published("mobilenetv2_050.lamb_in1k", 1_968_680, _BICUBIC, "mobilenetv2_050-3d30d450"),
        published("mobilenetv2_140.ra_in1k", 6_108_776, _BICUBIC, "mobilenetv2_140_ra-21a4e913"),
    ),
)
