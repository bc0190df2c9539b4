"""Keras's MobileNet."""

from convert.class_names import imagenet_names_without_background
from convert.layouts import KERAS
from convert.rule import Published, Rule
from convert.rules.keras.blocks import by_order, with_bn
from convert.rules.keras.files import published
from convert.rules.keras.presets import preset
from convert.rules.units import Names
from convert.rules.widths import mobilenet_v1_widths
from flaxmobile.models.mobilenet_v1 import MobileNetV1

_AS_CONVOLUTIONS = ("classifier",)


def _modules(model: MobileNetV1) -> Names:
    stem, *blocks = model.blocks()
    yield from with_bn(stem.name, "conv1")
    for number, block in enumerate(blocks, start=1):
        yield from with_bn(f"{block.name}/depthwise", f"conv_dw_{number}")
        yield from with_bn(f"{block.name}/pointwise", f"conv_pw_{number}")
    yield "classifier", "conv_preds"


_PARAMS = {1.0: 4_231_976, 0.75: 2_585_560, 0.5: 1_331_592, 0.25: 470_072}


def _published(alpha: float, size: int) -> Published:
    width = {1.0: "1_0", 0.75: "7_5", 0.5: "5_0", 0.25: "2_5"}[alpha]
    path = f"mobilenet/mobilenet_{width}_{size}_tf"
    return published(f"MobileNet_{alpha}_{size}", path, _PARAMS[alpha], size, alpha)


RULE = Rule(
    network=MobileNetV1,
    layout=KERAS,
    modules=_modules,
    other_names=(by_order(_modules, _AS_CONVOLUTIONS),),
    own_options={"whole_widths": True, "odd_sizes": "floor", "norm_momentum": 0.99},
    variants=tuple({"depth_multiplier": number} for number in (1, 2, 3, 4)),
    widths=mobilenet_v1_widths,
    preprocessing=preset(224),
    published=[_published(alpha, size) for alpha in _PARAMS for size in (224, 192, 160, 128)],
    class_names=imagenet_names_without_background,
    as_convolutions=_AS_CONVOLUTIONS,
    depth_multiplier=lambda model: model.depth_multiplier,
)
