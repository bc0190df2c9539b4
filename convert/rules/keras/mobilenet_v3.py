"""Keras's MobileNetV3Large and MobileNetV3Small, also the minimalistic ones.

The names are Keras 3's; those of Keras 2 have slashes and capitals.
"""

from convert.imagenet import class_names_without_background
from convert.layouts import KERAS
from convert.rule import Rule
from convert.rules.keras.blocks import by_order, with_bn
from convert.rules.keras.presets import preset
from convert.rules.units import Names
from convert.rules.widths import mobilenet_v3_widths
from flaxmobile.models.mobilenet_v3 import MobileNetV3, MobileNetV3Large, MobileNetV3Small

_AS_CONVOLUTIONS = ("hidden", "classifier")


def _modules(model: MobileNetV3) -> Names:
    yield from with_bn("stem", "conv")
    for index, block in enumerate(model.scaled.blocks):
        theirs = f"expanded_conv_{index}" if index else "expanded_conv"
        for layer in ("expand", "depthwise", "project")[index == 0 :]:
            if layer == "project" and block.row.stage.squeeze and not model.minimalistic:
                yield f"{block.name}/squeeze/reduce", f"{theirs}_squeeze_excite_conv"
                yield f"{block.name}/squeeze/expand", f"{theirs}_squeeze_excite_conv_1"
            yield from with_bn(f"{block.name}/{layer}", f"{theirs}_{layer}")
    yield from with_bn("last", "conv_1")
    if model.hidden_layer:
        yield "hidden", "conv_2"
    yield "classifier", "logits"


def _keras_2_modules(model: MobileNetV3) -> Names:
    for ours, theirs in _modules(model):
        name = theirs.removesuffix("_bn")
        for layer in ("expand", "depthwise", "project", "squeeze_excite"):
            name = name.replace(f"_{layer}", f"/{layer}")
        first, _, last = name.rpartition("_excite_")
        if first:
            name = f"{first}_excite/{last.capitalize()}"
        elif "/" not in name:
            name = name.capitalize()
        yield ours, f"{name}/BatchNorm" if theirs.endswith("_bn") else name


def _rule(network: type[MobileNetV3]) -> Rule:
    return Rule(
        network=network,
        layout=KERAS,
        modules=_modules,
        other_names=(_keras_2_modules, by_order(_modules, _AS_CONVOLUTIONS)),
        own_options={
            "padding": "same",
            "norm_epsilon": 1e-3,
            "norm_momentum": 0.999,
            "last_channel": "keras",
            "reduced_tail": False,
            "dilated": False,
        },
        variants=tuple(
            {"minimalistic": minimalistic, "hidden_layer": hidden_layer}
            for hidden_layer in (True, False)
            for minimalistic in (False, True)
        ),
        widths=mobilenet_v3_widths,
        preprocessing=preset(224),
        class_names=class_names_without_background,
        as_convolutions=_AS_CONVOLUTIONS,
        removable={"hidden": "hidden_layer"},
    )


LARGE = _rule(MobileNetV3Large)
SMALL = _rule(MobileNetV3Small)
