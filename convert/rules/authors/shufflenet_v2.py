"""ShuffleNet V2 of its authors: `ShuffleNetV2` of megvii-model/ShuffleNet-Series."""

from collections.abc import Iterator, Mapping

from convert.layouts import TORCH
from convert.rule import Options, Rule
from convert.rules.authors.megvii import ABOUT, PREPROCESSING, conv_norm, units
from flaxmobile.models import shufflenet_v2

_MAIN = (("pointwise1", 0), ("depthwise", 3), ("pointwise2", 5))
_SHORTCUT = (("shortcut_depthwise", 0), ("shortcut_pointwise", 2))
"""Our layer, its place in their branch."""


def _modules(options: Options) -> Iterator[tuple[str, str]]:
    yield from conv_norm("stem", "first_conv", 0)
    for ours, theirs in units(shufflenet_v2.UNITS):
        for layer, place in _MAIN:
            yield from conv_norm(f"{ours}/{layer}", f"{theirs}.branch_main", place)
        if ours.endswith("_block1"):
            for layer, place in _SHORTCUT:
                yield from conv_norm(f"{ours}/{layer}", f"{theirs}.branch_proj", place)
    yield from conv_norm("head", "conv_last", 0)
    yield "classifier", "classifier.0"


def _widths(options: Options) -> Mapping[str, int]:
    widths = shufflenet_v2.WIDTHS[options["alpha"]]
    stages = enumerate(widths.stages, start=2)
    halves = {f"stage{number}_block2/pointwise2/conv": width // 2 for number, width in stages}
    return {"stem/conv": shufflenet_v2.STEM_CHANNELS, **halves, "head/conv": widths.head}


SHUFFLENET_V2 = Rule(
    layout=TORCH,
    modules=_modules,
    own_options={
        "variant": "megvii",
        "padding": "symmetric",
        "norm_epsilon": 1e-5,
    },
    widths=_widths,
    preprocessing=PREPROCESSING,
    about=ABOUT,
    variants=tuple({"alpha": alpha} for alpha in (1.0, 0.5, 1.5, 2.0)),
)
