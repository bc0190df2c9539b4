"""torchvision's MobileNet V3, large and small."""

from convert.layouts import TORCH
from convert.rule import Published, Ranges, Rule
from convert.rules.torchvision.files import CLOSER, STANDARD, published
from convert.rules.units import Names, sequential
from convert.rules.widths import mobilenet_v3_widths
from flaxmobile.models.mobilenet_v3 import MobileNetV3, MobileNetV3Large, MobileNetV3Small


def _modules(model: MobileNetV3) -> Names:
    yield from sequential("stem", "features.0")
    blocks = model.scaled.blocks
    for index, (ours, row, *_) in enumerate(blocks, start=1):
        theirs = f"features.{index}.block"
        layers = ("expand", "depthwise")[not row.expands :]
        squeeze = ("squeeze",) * model.squeezes(row)
        for place, layer in enumerate((*layers, *squeeze, "project")):
            if layer == "squeeze":
                yield f"{ours}/squeeze/reduce", f"{theirs}.{place}.fc1"
                yield f"{ours}/squeeze/expand", f"{theirs}.{place}.fc2"
            else:
                yield from sequential(f"{ours}/{layer}", f"{theirs}.{place}")
    yield from sequential("last", f"features.{len(blocks) + 1}")
    yield "hidden", "classifier.0"
    yield "classifier", "classifier.3"


def _ranges(model: MobileNetV3) -> Names:
    """Name the ranges; hard-swish has one of its own, behind that of its convolution."""
    yield "images_range", "quant"
    swishes = {block.name: block.row.stage.swish for block in model.scaled.blocks}
    for ours, theirs in _modules(model):
        unit, _, layer = ours.rpartition("/")
        inside, _, name = unit.partition("/")
        if layer == "conv" and name != "project" and swishes.get(inside, True):
            yield f"{unit}/linear_range", theirs
            yield f"{unit}/range", f"{theirs.removesuffix('.0')}.2"
        elif layer == "conv":
            yield f"{unit}/range", theirs
        elif ours.endswith("squeeze/reduce"):
            yield f"{unit}/reduced_range", theirs
        elif ours.endswith("squeeze/expand"):
            yield f"{unit}/linear_gate_range", theirs
            yield f"{unit}/range", theirs.replace("fc2", "skip_mul")
    for index, (name, row, stride, _) in enumerate(model.scaled.blocks, start=1):
        if model.squeezes(row):  # the mean has the numbers of what it is of
            place, last = int(row.expands), 2 if row.stage.swish else 0
            yield f"{name}/squeeze/mean_range", f"features.{index}.block.{place}.{last}"
        if stride == 1 and row.channels == row.input_channels:
            yield f"{name}/sum_range", f"features.{index}.skip_add"
    yield "pooled_range", f"features.{len(model.scaled.blocks) + 1}.2"
    yield "linear_hidden_range", "classifier.0"
    yield "hidden_range", "classifier.1"
    yield "logits_range", "classifier.3"


_GATE = {"batch_stats/gate_range/least": 0.0, "batch_stats/gate_range/most": 255 / 256}
"""The range of the gates of squeeze-excite, which torch does not choose."""


def ssdlite_modules(model: MobileNetV3) -> Names:
    """Name the modules as in SSDLite, which cuts the body where it goes from 1/16 to 1/32."""
    cut = max(index for index, block in enumerate(model.blocks()) if block.stride == 2)
    for ours, theirs in _modules(model):
        first, index, *rest = theirs.split(".")
        if first != "features" or int(index) < cut:
            yield ours, theirs.replace("features.", "features.0.")
        elif int(index) > cut:
            yield ours, ".".join([first, "1", str(int(index) - cut), *rest])
        else:
            half = ["0", index, *rest[2:]] if rest[1] == "0" else ["1", "0", *rest[1:]]
            yield ours, ".".join([first, *half])


def _rule(network: type[MobileNetV3], *files: Published) -> Rule:
    return Rule(
        network=network,
        layout=TORCH,
        modules=_modules,
        other_names=(ssdlite_modules,),
        own_options={"norm_momentum": 0.99},
        variants=({"reduced_tail": False}, {"reduced_tail": True}),
        widths=mobilenet_v3_widths,
        ranges=Ranges(_ranges, constants=_GATE),
        removable={"hidden": "hidden_layer"},
        preprocessing=STANDARD,
        published=files,
    )


LARGE = _rule(
    MobileNetV3Large,
    published(
        "mobilenet_v3_large.IMAGENET1K_V2", "mobilenet_v3_large-5c1a4163", 5_483_032, 75.274, CLOSER
    ),
    published("mobilenet_v3_large.IMAGENET1K_V1", "mobilenet_v3_large-8738ca79", 5_483_032, 74.042),
    published(
        "quantized_mobilenet_v3_large.IMAGENET1K_QNNPACK_V1",
        "quantized/mobilenet_v3_large_qnnpack-5bcacf28",
        5_483_032,
        73.004,
    ),
)
SMALL = _rule(
    MobileNetV3Small,
    published("mobilenet_v3_small.IMAGENET1K_V1", "mobilenet_v3_small-047dcff4", 2_542_856, 67.668),
)
