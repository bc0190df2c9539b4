"""Widths of our networks: output channels of the layers that tell one alpha from another."""

from collections.abc import Mapping

from convert.rules.units import units_of
from flaxmobile.layers import Max, Unit
from flaxmobile.layers.inception import InceptionNetwork
from flaxmobile.models import mnasnet, mobilenet_v1, mobilenet_v2, mobilenet_v4, mobilenext
from flaxmobile.models import shufflenet_v1 as v1
from flaxmobile.models import shufflenet_v2 as v2
from flaxmobile.models.mobilenet_v3 import MobileNetV3

Widths = Mapping[str, int]
"""Our path of a module -> its output channels."""


def mobilenet_v1_widths(model: mobilenet_v1.MobileNetV1) -> Widths:
    """Channels of the stem, of the first filter and of all blocks."""
    stem, blocks = model.width(mobilenet_v1.STEM_CHANNELS), model.blocks()[1:]
    return {
        "stem/conv": stem,
        f"{blocks[0].name}/depthwise/conv": stem * model.depth_multiplier,
        **{f"{block.name}/pointwise/conv": model.width(block.row.channels) for block in blocks},
    }


def mobilenet_v2_widths(model: mobilenet_v2.MobileNetV2) -> Widths:
    """Channels of the stem, the blocks and the head."""
    return {
        "stem/conv": model.stem_channels,
        **_projected(model),
        "head/conv": model.head_channels,
    }


def mnasnet_widths(model: mnasnet.MnasNet) -> Widths:
    """Channels of the stem and the blocks."""
    return {"stem/conv": model.width(model.table.stem), **_projected(model)}


def _projected(model: mobilenet_v2.MobileNetV2 | mnasnet.MnasNet) -> Widths:
    return {
        f"{block.name}/project/conv": model.width(block.row.channels)
        for block in model.blocks()[1:]
    }


def mobilenet_v3_widths(model: MobileNetV3) -> Widths:
    """Channels of every layer but squeeze-excite's and the classifier."""
    scaled = model.scaled
    channels = {"stem/conv": scaled.stem, "last/conv": scaled.last}
    if model.hidden_layer:
        channels["hidden"] = scaled.hidden
    for block in scaled.blocks:
        channels[f"{block.name}/depthwise/conv"] = block.row.expanded_channels
        channels[f"{block.name}/project/conv"] = block.row.channels
    return channels


def mobilenet_v4_widths(model: mobilenet_v4.MobileNetV4) -> Widths:
    """Channels of the stem and of all blocks."""
    widths = {"stem/conv": model.stem_channels}
    for block in model.blocks()[1:]:
        if isinstance(block.row, Unit):
            widths[f"{block.name}/conv"] = block.row.features
        else:
            widths[f"{block.name}/project/conv"] = model.width(block.row.channels)
    return widths


def mobilenext_widths(model: mobilenext.MobileNeXt) -> Widths:
    """Channels of the stem and the blocks."""
    return {
        "stem/conv": model.width(mobilenext.STEM_CHANNELS),
        **{f"{block.name}/expand/conv": block.row.channels for block in model.blocks()[1:]},
    }


def inception_widths(model: InceptionNetwork) -> Widths:
    """Channels of all units, alone and in branches."""
    widths = {}
    for name, row, *_ in model.blocks():
        match row:
            case Unit():
                widths[f"{name}/conv"] = row.features
            case tuple() if not isinstance(row, Max):
                units = (unit for branch in row for layer in branch for unit in units_of(layer))
                widths |= {f"{name}/{unit.name}/conv": unit.features for unit in units}
    return widths


def shufflenet_v1_widths(model: v1.ShuffleNetV1) -> Widths:
    """Channels of the stem and of units of stride 1."""
    return {
        "stem/conv": v1.stem_channels(model.groups, model.alpha),
        **{f"{name}/expand/conv": channels for name, channels in _units_of_stride_1(model).items()},
    }


def shufflenet_v2_widths(model: v2.ShuffleNetV2) -> Widths:
    """Channels of the stem, of units of stride 1, and of the head."""
    return {
        "stem/conv": v2.STEM_CHANNELS,
        **{
            f"{name}/pointwise2/conv": channels // 2
            for name, channels in _units_of_stride_1(model).items()
        },
        "head/conv": v2.WIDTHS[model.alpha].head,
    }


def _units_of_stride_1(model: v1.ShuffleNetV1 | v2.ShuffleNetV2) -> Widths:
    """Channels of the units of stride 1, by their names."""
    units = (block for block in model.blocks() if block.name not in ("stem", "pool"))
    return {unit.name: unit.row.channels for unit in units if unit.stride == 1}
