"""torchvision's MobileNet V2."""

from convert.layouts import TORCH
from convert.rule import Ranges, Rule
from convert.rules.torchvision.files import CLOSER, STANDARD, published
from convert.rules.units import Names, listed, ranges_of_units, sequential
from convert.rules.widths import mobilenet_v2_widths
from flaxmobile.models.mobilenet_v2 import MobileNetV2


def _modules(model: MobileNetV2) -> Names:
    stem, *blocks = model.blocks()
    yield from sequential(stem.name, "features.0")
    for index, block in enumerate(blocks, start=1):
        theirs = f"features.{index}.conv"
        layers = ("depthwise",) if block.row.expansion == 1 else ("expand", "depthwise")
        for place, layer in enumerate(layers):
            yield from sequential(f"{block.name}/{layer}", f"{theirs}.{place}")
        yield from listed(f"{block.name}/project", theirs, len(layers))
    yield from sequential("head", f"features.{len(blocks) + 1}")
    yield "classifier", "classifier.1"


def _ranges(model: MobileNetV2) -> Names:
    yield "images_range", "quant"
    yield from ranges_of_units(_modules(model))
    channels = model.stem_channels
    for index, block in enumerate(model.blocks()[1:], start=1):
        width = model.width(block.row.channels)
        if block.stride == 1 and width == channels:
            yield f"{block.name}/sum_range", f"features.{index}.skip_add"
        channels = width
    yield "pooled_range", f"features.{index + 1}.0"
    yield "logits_range", "classifier.1"


RULE = Rule(
    network=MobileNetV2,
    layout=TORCH,
    modules=_modules,
    widths=mobilenet_v2_widths,
    ranges=Ranges(_ranges, {"activation": "relu"}),
    preprocessing=STANDARD,
    published=(
        published("mobilenet_v2.IMAGENET1K_V2", "mobilenet_v2-7ebf99e0", 3_504_872, 72.154, CLOSER),
        published("mobilenet_v2.IMAGENET1K_V1", "mobilenet_v2-b0353104", 3_504_872, 71.878),
        published(
            "quantized_mobilenet_v2.IMAGENET1K_QNNPACK_V1",
            "quantized/mobilenet_v2_qnnpack_37f702c5",
            3_504_872,
            71.658,
        ),
    ),
)
