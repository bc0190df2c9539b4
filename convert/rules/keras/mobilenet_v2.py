"""Keras's MobileNetV2.

It cuts a block's scaled width to a whole number before it rounds to a multiple of 8. At the widths
that it publishes, and at all multiples of 0.05, that changes nothing; where it does, the shapes
are refused.
"""

from functools import partial

from convert.class_names import imagenet_names_without_background
from convert.layouts import KERAS
from convert.rule import Published, Rule
from convert.rules.keras.blocks import by_order, with_bn
from convert.rules.keras.files import published
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


_PARAMS = {
    1.0: 3_504_872,
    0.35: 1_677_128,
    0.5: 1_968_680,
    0.75: 2_636_424,
    1.3: 5_386_792,
    1.4: 6_108_776,
}


def _published(alpha: float, size: int) -> Published:
    path = f"mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{alpha}_{size}"
    return published(f"MobileNetV2_{alpha}_{size}", path, _PARAMS[alpha], size, alpha)


RULE = Rule(
    network=MobileNetV2,
    layout=KERAS,
    modules=_modules,
    other_names=(partial(_modules, classifier="Logits"), by_order(_modules)),  # Keras 2.2's
    own_options={"padding": "same", "norm_epsilon": 1e-3, "norm_momentum": 0.999},
    widths=mobilenet_v2_widths,
    preprocessing=preset(224),
    published=[
        _published(alpha, size)
        for alpha in _PARAMS
        for size in ((224, 192, 160, 128, 96) if alpha <= 1 else (224,))
    ],
    class_names=imagenet_names_without_background,
)
