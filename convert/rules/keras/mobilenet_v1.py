"""Keras's MobileNet.

At sizes that are not multiples of 32 it is another network: it pads a strided depthwise convolution
at the bottom and right alone, and its maps are a pixel smaller where "same" padding is ours.
"""

from collections.abc import Iterator, Mapping
from functools import partial

from convert.imagenet import class_names_without_background
from convert.layouts import KERAS
from convert.rule import Options, Rule
from convert.rules.keras.blocks import by_order, conv_norm
from convert.rules.keras.presets import preset
from flaxmobile.layers import stage_blocks
from flaxmobile.models import mobilenet_v1

_LAYERS = {"depthwise": "conv_dw", "pointwise": "conv_pw"}
_AS_CONVOLUTIONS = ("classifier",)


def _modules(options: Options) -> Iterator[tuple[str, str]]:
    yield from conv_norm("stem", "conv1", "conv1_bn")
    for number, (block, *_) in enumerate(stage_blocks(mobilenet_v1.STAGES), start=1):
        for ours, theirs in _LAYERS.items():
            name = f"{theirs}_{number}"
            yield from conv_norm(f"{block}/{ours}", name, f"{name}_bn")
    yield "classifier", "conv_preds"


def _widths(options: Options) -> Mapping[str, int]:
    scale = partial(mobilenet_v1.scale, alpha=options["alpha"], whole=options["whole_widths"])
    stem = scale(mobilenet_v1.STEM_CHANNELS)
    pointwise = {
        f"{block.name}/pointwise/conv": scale(block.row.channels)
        for block in stage_blocks(mobilenet_v1.STAGES)
    }
    first = next(block for block, *_ in stage_blocks(mobilenet_v1.STAGES))
    multiplied = {f"{first}/depthwise/conv": stem * options["depth_multiplier"]}
    return {"stem/conv": stem, **multiplied, **pointwise}


MOBILENET_V1 = Rule(
    layout=KERAS,
    modules=_modules,
    other_names=(by_order(_modules, _AS_CONVOLUTIONS),),
    own_options={
        "whole_widths": True,
        "padding": "same",
        "norm_epsilon": 1e-3,
        "norm_momentum": 0.99,
    },
    variants=tuple({"depth_multiplier": number} for number in (1, 2, 3, 4)),
    widths=_widths,
    preprocessing=preset(224),
    class_names=class_names_without_background,
    as_convolutions=_AS_CONVOLUTIONS,
    depth_multiplier=lambda options: options["depth_multiplier"],
)
