"""Hugging Face's transformers: MobileNet V1 and V2, with TF-slim's numbers and 1001 classes.

Padding is TensorFlow's. transformers gives TensorFlow's momentum to torch, which means its
complement there; ours is TensorFlow's.
"""

from convert.layouts import TORCH
from convert.rule import Rule
from convert.rules.timm.files import HALF, preset
from convert.rules.units import Names, unit
from convert.rules.widths import mobilenet_v1_widths, mobilenet_v2_widths
from flaxmobile.models.mobilenet_v1 import MobileNetV1
from flaxmobile.models.mobilenet_v2 import MobileNetV2

_LAYERS = {"expand": "expand_1x1", "depthwise": "conv_3x3", "project": "reduce_1x1"}


def _layer(ours: str, theirs: str) -> Names:
    return unit(ours, theirs, ".convolution", ".normalization")


def _v1_modules(model: MobileNetV1) -> Names:
    stem, *blocks = model.blocks()
    yield from _layer(stem.name, "mobilenet_v1.conv_stem")
    for index, block in enumerate(blocks):
        yield from _layer(f"{block.name}/depthwise", f"mobilenet_v1.layer.{2 * index}")
        yield from _layer(f"{block.name}/pointwise", f"mobilenet_v1.layer.{2 * index + 1}")
    yield "classifier", "classifier"


def _v2_modules(model: MobileNetV2) -> Names:
    stem, first, *blocks = model.blocks()
    yield from _layer(stem.name, "mobilenet_v2.conv_stem.first_conv")
    for layer in ("depthwise", "project"):
        yield from _layer(f"{first.name}/{layer}", f"mobilenet_v2.conv_stem.{_LAYERS[layer]}")
    for index, block in enumerate(blocks):
        for layer, theirs in _LAYERS.items():
            yield from _layer(f"{block.name}/{layer}", f"mobilenet_v2.layer.{index}.{theirs}")
    yield from _layer("head", "mobilenet_v2.conv_1x1")
    yield "classifier", "classifier"


RULES = {
    "mobilenet_v1": Rule(
        network=MobileNetV1,
        layout=TORCH,
        modules=_v1_modules,
        own_options={"norm_momentum": 0.9997, "whole_widths": True},
        widths=mobilenet_v1_widths,
        preprocessing=preset(mean=HALF, std=HALF),
    ),
    "mobilenet_v2": Rule(
        network=MobileNetV2,
        layout=TORCH,
        modules=_v2_modules,
        own_options={"padding": "same", "norm_epsilon": 1e-3, "norm_momentum": 0.997},
        widths=mobilenet_v2_widths,
        preprocessing=preset(mean=HALF, std=HALF),
    ),
}
