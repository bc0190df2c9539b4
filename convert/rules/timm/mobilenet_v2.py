"""timm's MobileNet V2 (`mobilenetv2_035` to `mobilenetv2_140`).

The deeper ones, `mobilenetv2_110d` and `mobilenetv2_120d`, have more blocks than our network.
"""

from collections.abc import Iterator

from convert.layouts import TORCH
from convert.rule import Options, Rule
from convert.rules.timm.files import preset, published
from convert.rules.torchvision.mobilenet_v2 import widths
from flaxmobile.models import mobilenet_v2

_BLOCK = {"expand": "conv_pw", "depthwise": "conv_dw", "project": "conv_pwl"}
_FIRST_BLOCK = {"depthwise": "conv_dw", "project": "conv_pw"}


def _modules(options: Options) -> Iterator[tuple[str, str]]:
    yield "stem/conv", "conv_stem"
    yield "stem/norm", "bn1"
    for number, stage in enumerate(mobilenet_v2.STAGES, start=1):
        for block in range(1, stage.blocks + 1):
            ours, theirs = f"stage{number}_block{block}", f"blocks.{number - 1}.{block - 1}"
            layers = _FIRST_BLOCK if stage.expansion == 1 else _BLOCK
            for position, (layer, conv) in enumerate(layers.items(), start=1):
                yield f"{ours}/{layer}/conv", f"{theirs}.{conv}"
                yield f"{ours}/{layer}/norm", f"{theirs}.bn{position}"
    yield "head/conv", "conv_head"
    yield "head/norm", "bn2"
    yield "classifier", "classifier"


_BICUBIC = preset(interpolation="bicubic")

MOBILENET_V2 = Rule(
    layout=TORCH,
    modules=_modules,
    own_options={
        "padding": "symmetric",
        "norm_epsilon": 1e-5,
        "norm_momentum": 0.9,
        "shortcut": "bottleneck",
        "linear": True,
    },
    widths=widths,
    preprocessing=_BICUBIC,
    published=(
        published("mobilenetv2_050.lamb_in1k", "mobilenetv2_050-3d30d450", _BICUBIC),
        published("mobilenetv2_100.ra_in1k", "mobilenetv2_100_ra-b33bc2c4", _BICUBIC),
        published("mobilenetv2_140.ra_in1k", "mobilenetv2_140_ra-21a4e913", _BICUBIC),
    ),
)
