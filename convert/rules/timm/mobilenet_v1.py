"""timm's MobileNet V1 (`mobilenetv1_100`, `mobilenetv1_125`)."""

from collections.abc import Iterator, Mapping

from convert.layouts import TORCH
from convert.rule import Options, Rule
from convert.rules.timm.files import HALF, preset
from flaxmobile.layers import round_channels, stage_blocks
from flaxmobile.models import mobilenet_v1


def _modules(options: Options) -> Iterator[tuple[str, str]]:
    yield "stem/conv", "conv_stem"
    yield "stem/norm", "bn1"
    for ours, *_ in stage_blocks(mobilenet_v1.STAGES):
        stage, block = ours.removeprefix("stage").split("_block")
        theirs = f"blocks.{int(stage) - 1}.{int(block) - 1}"
        yield f"{ours}/depthwise/conv", f"{theirs}.conv_dw"
        yield f"{ours}/depthwise/norm", f"{theirs}.bn1"
        yield f"{ours}/pointwise/conv", f"{theirs}.conv_pw"
        yield f"{ours}/pointwise/norm", f"{theirs}.bn2"
    yield "classifier", "classifier"


def _widths(options: Options) -> Mapping[str, int]:
    alpha = options["alpha"]
    channels = {
        f"{block.name}/pointwise/conv": block.row.channels
        for block in stage_blocks(mobilenet_v1.STAGES)
    }
    channels["stem/conv"] = mobilenet_v1.STEM_CHANNELS
    return {module: round_channels(width * alpha) for module, width in channels.items()}


MOBILENET_V1 = Rule(
    layout=TORCH,
    modules=_modules,
    own_options={
        "padding": "symmetric",
        "norm_epsilon": 1e-5,
        "norm_momentum": 0.9,
        "depth_multiplier": 1,
        "whole_widths": False,
    },
    widths=_widths,
    preprocessing=preset(mean=HALF, std=HALF, interpolation="bicubic"),
)
