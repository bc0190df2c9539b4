"""torchvision's ShuffleNet V2."""

from collections.abc import Iterator, Mapping

from convert.layouts import TORCH
from convert.rule import Options, Rule
from convert.rules.torchvision.blocks import conv_norm
from convert.rules.torchvision.files import CLOSER, STANDARD, published
from flaxmobile.models import shufflenet_v2

_SHORTCUT = (("shortcut_depthwise", "branch1", 0), ("shortcut_pointwise", "branch1", 2))
_TRANSFORM = (
    ("pointwise1", "branch2", 0),
    ("depthwise", "branch2", 3),
    ("pointwise2", "branch2", 5),
)
"""Our layer, their branch, its position there."""


def _modules(options: Options) -> Iterator[tuple[str, str]]:
    yield from conv_norm("stem", "conv1")
    for number, blocks in enumerate(shufflenet_v2.UNITS, start=2):
        for block in range(1, blocks + 1):
            ours, theirs = f"stage{number}_block{block}", f"stage{number}.{block - 1}"
            for layer, branch, index in (*(_SHORTCUT if block == 1 else ()), *_TRANSFORM):
                yield f"{ours}/{layer}/conv", f"{theirs}.{branch}.{index}"
                yield f"{ours}/{layer}/norm", f"{theirs}.{branch}.{index + 1}"
    yield from conv_norm("head", "conv5")
    yield "classifier", "fc"


def _widths(options: Options) -> Mapping[str, int]:
    widths = shufflenet_v2.WIDTHS[options["alpha"]]
    channels = {
        f"stage{number}_block1/pointwise2/conv": features // 2
        for number, features in enumerate(widths.stages, start=2)
    }
    return {"stem/conv": shufflenet_v2.STEM_CHANNELS, "head/conv": widths.head, **channels}


SHUFFLENET_V2 = Rule(
    layout=TORCH,
    modules=_modules,
    own_options={
        "padding": "symmetric",
        "norm_epsilon": 1e-5,
    },
    widths=_widths,
    preprocessing=STANDARD,
    published=(
        published("shufflenetv2_x0.5-f707e7126e", alpha=0.5),
        published("shufflenetv2_x1-5666bf0f80"),
        published("shufflenetv2_x1_5-3c479a10", CLOSER, alpha=1.5),
        published("shufflenetv2_x2_0-8be3c8ee", CLOSER, alpha=2.0),
    ),
    variants=tuple({"alpha": alpha} for alpha in (1.0, 0.5, 1.5, 2.0)),
)
