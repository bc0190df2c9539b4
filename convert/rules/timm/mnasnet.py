"""timm's MnasNet-B1 (`mnasnet_050` to `mnasnet_140`).

`mnasnet_small` and the ones with squeeze-excite, `semnasnet_*` (MnasNet-A1), are other networks.
"""

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
    own_options={"padding": "symmetric", "norm_epsilon": 1e-5, "norm_momentum": 0.9},
    widths=mnasnet_widths,
    preprocessing=_BICUBIC,
    published=(published("mnasnet_100.rmsp_in1k", 4_383_312, _BICUBIC, "mnasnet_b1-74cb7081"),),
)
