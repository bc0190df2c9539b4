"""Keras's MobileNetV2.

It cuts a block's scaled width to a whole number before it rounds to a multiple of 8. At the widths
that it publishes, and at all multiples of 0.05, that changes nothing; where it does, the shapes
are refused.
"""

from functools import partial

from convert.imagenet import class_names_without_background
from convert.layouts import KERAS
from convert.rule import Rule
from convert.rules.keras.blocks import by_order, with_bn
from convert.rules.keras.presets import preset
from convert.rules.units import Names, unit
from convert.rules.widths import mobilenet_v2_widths
from flaxmobile.models.mobilenet_v2 import MobileNetV2


def _modules(model: MobileNetV2, classifier: str = "predictions") -> Names:
    stem, *blocks = model.blocks()
    yield from unit(stem.name, "", "Conv1", "bn_Conv1")
    for index, block in enumerate(blocks):
        theirs = f"block_{index}" if index else "expanded_conv"
        for layer in ("expand", "depthwise", "project")[block.row.expansion == 1 :]:
            yield from unit(f"{block.name}/{layer}", f"{theirs}_{layer}", "", "_BN")
    yield from with_bn("head", "Conv_1")
    yield "classifier", classifier


RULE = Rule(
    network=MobileNetV2,
    layout=KERAS,
    modules=_modules,
    other_names=(partial(_modules, classifier="Logits"), by_order(_modules)),  # Keras 2.2's
    own_options={
        "padding": "same",
        "norm_epsilon": 1e-3,
        "norm_momentum": 0.999,
        "shortcut": "bottleneck",
        "linear": True,
    },
    widths=mobilenet_v2_widths,
    preprocessing=preset(224),
    class_names=class_names_without_background,
)
