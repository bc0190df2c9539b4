"""Names of the blocks of timm's MobileNets."""

from convert.rules.units import Names, unit
from flaxmobile.layers import Block
from flaxmobile.models.mnasnet import MnasNet
from flaxmobile.models.mobilenet_v2 import MobileNetV2

_LAYERS = {"expand": "conv_pw", "depthwise": "conv_dw", "project": "conv_pwl"}
_WITHOUT_EXPANSION = {"depthwise": "conv_dw", "project": "conv_pw"}


def place_of(block: Block) -> str:
    """Name a block: its stage and its place there, counted from 0."""
    stage, number = block.name.removeprefix("stage").split("_block")
    return f"blocks.{int(stage) - 1}.{int(number) - 1}"


def inverted_residual(block: Block, expands: bool, squeezes: bool = False) -> Names:
    """Name the layers of an inverted residual, in timm's order."""
    theirs = place_of(block)
    layers = _LAYERS if expands else _WITHOUT_EXPANSION
    for position, (layer, conv) in enumerate(layers.items(), start=1):
        if layer == "project" and squeezes:
            yield f"{block.name}/squeeze/reduce", f"{theirs}.se.conv_reduce"
            yield f"{block.name}/squeeze/expand", f"{theirs}.se.conv_expand"
        yield from unit(f"{block.name}/{layer}", theirs, f".{conv}", f".bn{position}")


def inverted_residuals(model: MobileNetV2 | MnasNet) -> Names:
    """Name all modules of a network whose blocks are inverted residuals."""
    stem, *blocks = model.blocks()
    yield from unit(stem.name, "", "conv_stem", "bn1")
    for block in blocks:
        squeezes = getattr(block.row, "squeeze", False)  # V2 has none
        yield from inverted_residual(block, block.row.expansion != 1, squeezes)
    yield from unit("head", "", "conv_head", "bn2")
    yield "classifier", "classifier"
