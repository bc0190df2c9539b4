"""Keras's MobileNetV2.

It cuts a block's scaled width to a whole number before it rounds to a multiple of 8. At the widths
that it publishes, and at all multiples of 0.05, that changes nothing; where it does, the shapes
are refused.
"""

from collections.abc import Iterator
from functools import partial

from convert.imagenet import class_names_without_background
from convert.layouts import KERAS
from convert.rule import Options, Rule
from convert.rules.keras.blocks import by_order, conv_norm
from convert.rules.keras.presets import preset
from convert.rules.torchvision.mobilenet_v2 import widths
from flaxmobile.models import mobilenet_v2


def _modules(options: Options, classifier: str = "predictions") -> Iterator[tuple[str, str]]:
    yield from conv_norm("stem", "Conv1", "bn_Conv1")
    index = 0
    for number, stage in enumerate(mobilenet_v2.STAGES, start=1):
        for block in range(1, stage.blocks + 1):
            theirs = f"block_{index}" if index else "expanded_conv"
            index += 1
            layers = ("expand", "depthwise", "project")
            for layer in layers[stage.expansion == 1 :]:
                name = f"{theirs}_{layer}"
                yield from conv_norm(f"stage{number}_block{block}/{layer}", name, f"{name}_BN")
    yield from conv_norm("head", "Conv_1", "Conv_1_bn")
    yield "classifier", classifier


MOBILENET_V2 = Rule(
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
    widths=widths,
    preprocessing=preset(224),
    class_names=class_names_without_background,
)
