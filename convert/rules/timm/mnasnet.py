"""timm's MnasNets: B1 (`mnasnet_050` to `_140`), A1 (`semnasnet_050` to `_140`), and the small."""

from convert.layouts import TORCH
from convert.rule import Rule
from convert.rules.timm.blocks import inverted_residuals
from convert.rules.timm.files import preset, published
from convert.rules.widths import mnasnet_widths
from flaxmobile.models.mnasnet import MnasNet

_BICUBIC = preset(interpolation="bicubic")

RULE = Rule(
    network=MnasNet,
    layout=TORCH,
    modules=inverted_residuals,
    own_options={"norm_momentum": 0.9},
    variants=({"variant": "b1"}, {"variant": "a1"}, {"variant": "small"}),
    widths=mnasnet_widths,
    preprocessing=_BICUBIC,
    published=(
        published("mnasnet_100.rmsp_in1k", 4_383_312, _BICUBIC, "mnasnet_b1-74cb7081"),
        published("mnasnet_small.lamb_in1k", 2_030_264, _BICUBIC, "mnasnet_small_lamb-aff75073"),
        published("semnasnet_100.rmsp_in1k", 3_887_038, _BICUBIC, "mnasnet_a1-d9418771"),
        published("semnasnet_075.rmsp_in1k", 2_912_278, _BICUBIC, "semnasnet_075-18710866"),
    ),
)
