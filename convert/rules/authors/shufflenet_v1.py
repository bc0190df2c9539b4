"""ShuffleNet of its authors: `ShuffleNetV1` of megvii-model/ShuffleNet-Series."""

from collections.abc import Iterator, Mapping

from convert.layouts import TORCH
from convert.rule import Options, Rule
from convert.rules.authors.megvii import ABOUT, PREPROCESSING, conv_norm, units
from flaxmobile.models import shufflenet_v1

_LAYERS = (
    ("reduce", "branch_main_1", 0),
    ("depthwise", "branch_main_1", 3),
    ("expand", "branch_main_2", 0),
)
"""Our layer, their branch, its place there."""


def _modules(options: Options) -> Iterator[tuple[str, str]]:
    yield from conv_norm("stem", "first_conv", 0)
    for ours, theirs in units(shufflenet_v1.UNITS):
        for layer, branch, place in _LAYERS:
            yield from conv_norm(f"{ours}/{layer}", f"{theirs}.{branch}", place)
    yield "classifier", "classifier.0"


def _widths(options: Options) -> Mapping[str, int]:
    groups, alpha = options["groups"], options["alpha"]
    stages = enumerate(shufflenet_v1.stage_channels(groups, alpha), start=2)
    channels = {f"stage{number}_block2/expand/conv": width for number, width in stages}
    return {"stem/conv": shufflenet_v1.stem_channels(groups, alpha), **channels}


SHUFFLENET_V1 = Rule(
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
    variants=tuple(
        {"groups": groups, "alpha": alpha} for groups in (3, 8) for alpha in (1.0, 0.5, 1.5, 2.0)
    ),
)
