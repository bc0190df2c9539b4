"""MobileNeXt of its authors: `mnext` of yitu-opensource/MobileNeXt."""

from collections.abc import Iterator, Mapping

from convert.layouts import TORCH
from convert.rule import Options, Rule
from flaxmobile.layers import Block, round_channels
from flaxmobile.models import mobilenext
from flaxmobile.preprocessing import Preprocessing

_SLOTS = {"depthwise1": 3, "reduce": 2, "expand": 3, "depthwise2": 2}
"""Layer of a block -> its convolution, normalization and, where it has one, ReLU6 in a list."""


def _modules(options: Options) -> Iterator[tuple[str, str]]:
    yield "stem/conv", "features.0.0"
    yield "stem/norm", "features.0.1"
    channels = round_channels(mobilenext.STEM_CHANNELS * options["alpha"])
    for index, block in enumerate(_blocks(options), start=1):
        row = block.row
        first, last = mobilenext.has_depthwise(
            channels, row.channels, row.reduction, block.stride, row.keep_3x3
        )
        channels = row.channels
        place = 0
        for layer in ("depthwise1",) * first + ("reduce", "expand") + ("depthwise2",) * last:
            theirs = f"features.{index}.conv"
            yield f"{block.name}/{layer}/conv", f"{theirs}.{place}"
            yield f"{block.name}/{layer}/norm", f"{theirs}.{place + 1}"
            place += _SLOTS[layer]
    yield "classifier", "classifier.1"


def _blocks(options: Options) -> list[Block]:
    _, *blocks = mobilenext.MobileNeXt(alpha=options["alpha"]).blocks()
    return blocks


def _widths(options: Options) -> Mapping[str, int]:
    alpha = options["alpha"]
    widths = {f"{block.name}/expand/conv": block.row.channels for block in _blocks(options)}
    return {"stem/conv": round_channels(mobilenext.STEM_CHANNELS * alpha), **widths}


MOBILENEXT = Rule(
    layout=TORCH,
    modules=_modules,
    own_options={
        "identity_tensor_multiplier": 1.0,
        "padding": "symmetric",
        "norm_epsilon": 1e-5,
    },
    widths=_widths,
    # The preset of the timm of that time, with which they trained and measured.
    preprocessing=Preprocessing(resize_size=256, interpolation="bicubic"),
    about={"repository": "yitu-opensource/MobileNeXt"},
)
