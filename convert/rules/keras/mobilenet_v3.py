"""Keras's MobileNetV3Large and MobileNetV3Small, also the minimalistic ones.

The names are Keras 3's; those of Keras 2 have slashes and capitals.
"""

from convert.class_names import imagenet_names_without_background
from convert.layouts import KERAS
from convert.rule import Published, Rule
from convert.rules.keras.blocks import by_order, with_bn
from convert.rules.keras.files import published
from convert.rules.keras.presets import preset
from convert.rules.units import Names
from convert.rules.widths import mobilenet_v3_widths
from flaxmobile.models.mobilenet_v3 import MobileNetV3, MobileNetV3Large, MobileNetV3Small

_AS_CONVOLUTIONS = ("hidden", "classifier")


def _modules(model: MobileNetV3) -> Names:
    yield from with_bn("stem", "conv")
    for index, block in enumerate(model.scaled.blocks):
        theirs = f"expanded_conv_{index}" if index else "expanded_conv"
        for layer in ("expand", "depthwise", "project")[not block.row.expands :]:
            if layer == "project" and model.squeezes(block.row):
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


def _published(kind: str, params: int, md5: str, top1: float, alpha: float = 1.0) -> Published:
    """Describe a file of a kind of network: its size, and "minimalistic" if it is."""
    size, *minimalistic = kind.split("_")
    name = "_".join([f"MobileNetV3{size.capitalize()}", *minimalistic, str(alpha)])
    path = f"mobilenet_v3/weights_mobilenet_v3_{kind}_224_{alpha}_float"
    return published(name, path, params, alpha=alpha, md5=md5, top1=top1)


def _rule(network: type[MobileNetV3], *files: Published) -> Rule:
    return Rule(
        network=network,
        layout=KERAS,
        modules=_modules,
        other_names=(_keras_2_modules, by_order(_modules, _AS_CONVOLUTIONS)),
        own_options={"padding": "same", "norm_momentum": 0.999, "last_channel": "keras"},
        variants=tuple(
            {"minimalistic": minimalistic, "hidden_layer": hidden_layer}
            for hidden_layer in (True, False)
            for minimalistic in (False, True)
        ),
        widths=mobilenet_v3_widths,
        preprocessing=preset(224),
        published=files,
        class_names=imagenet_names_without_background,
        as_convolutions=_AS_CONVOLUTIONS,
        removable={"hidden": "hidden_layer"},
    )


LARGE = _rule(
    MobileNetV3Large,
    _published("large", 5_483_032, "59e551e166be033d707958cf9e29a6a7", 75.6),
    _published("large", 3_993_528, "765b44a33ad4005b3ac83185abf1d0eb", 73.3, 0.75),
    _published("large_minimalistic", 3_924_288, "675e7b876c45c57e9e63e6d90a36599c", 72.3),
)
SMALL = _rule(
    MobileNetV3Small,
    _published("small", 2_542_856, "8768d4c2e7dee89b9d02b2d03d65d862", 68.1),
    _published("small", 2_041_872, "cb65d4e5be93758266aa0a7f2c6708b7", 65.4, 0.75),
    _published("small_minimalistic", 2_044_736, "99cd97fb2fcdad2bf028eb838de69e37", 61.9),
)
