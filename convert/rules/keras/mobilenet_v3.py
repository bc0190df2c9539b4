"""Keras's MobileNetV3Large and MobileNetV3Small, minimalistic ones among them.

The names are Keras 3's; those of Keras 2 have slashes and capitals.
"""

from collections.abc import Iterator, Mapping
from functools import partial

from convert.imagenet import class_names_without_background
from convert.layouts import KERAS
from convert.rule import Options, Rule
from convert.rules.keras.blocks import by_order, conv_norm
from convert.rules.keras.presets import preset
from convert.rules.torchvision.mobilenet_v3 import scale_as, widths
from flaxmobile.models.mobilenet_v3 import LARGE, SMALL, Table

_AS_CONVOLUTIONS = ("hidden", "classifier")


def _modules(table: Table, options: Options) -> Iterator[tuple[str, str]]:
    yield from conv_norm("stem", "conv", "conv_bn")
    for index, block in enumerate(scale_as(table, options).blocks):
        theirs = f"expanded_conv_{index}" if index else "expanded_conv"
        for layer in ("expand", "depthwise", "project")[index == 0 :]:
            if layer == "project" and block.row.stage.squeeze and not options["minimalistic"]:
                yield f"{block.name}/squeeze/reduce", f"{theirs}_squeeze_excite_conv"
                yield f"{block.name}/squeeze/expand", f"{theirs}_squeeze_excite_conv_1"
            name = f"{theirs}_{layer}"
            yield from conv_norm(f"{block.name}/{layer}", name, f"{name}_bn")
    yield from conv_norm("last", "conv_1", "conv_1_bn")
    if options["hidden_layer"]:
        yield "hidden", "conv_2"
    yield "classifier", "logits"


def _of_keras_2(table: Table, options: Options) -> Iterator[tuple[str, str]]:
    for ours, theirs in _modules(table, options):
        name = theirs.removesuffix("_bn")
        for layer in ("expand", "depthwise", "project", "squeeze_excite"):
            name = name.replace(f"_{layer}", f"/{layer}")
        first, _, last = name.rpartition("_excite_")
        if first:
            name = f"{first}_excite/{last.capitalize()}"
        elif "/" not in name:
            name = name.capitalize()
        yield ours, f"{name}/BatchNorm" if theirs.endswith("_bn") else name


def _widths(table: Table, options: Options) -> Mapping[str, int]:
    found = dict(widths(table, options))
    if not options["hidden_layer"]:
        del found["hidden"]
    return found


def _rule(table: Table) -> Rule:
    modules = partial(_modules, table)
    return Rule(
        layout=KERAS,
        modules=modules,
        other_names=(partial(_of_keras_2, table), by_order(modules, _AS_CONVOLUTIONS)),
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
        widths=partial(_widths, table),
        preprocessing=preset(224),
        class_names=class_names_without_background,
        as_convolutions=_AS_CONVOLUTIONS,
        removable={"hidden": "hidden_layer"},
    )


MOBILENET_V3_LARGE = _rule(LARGE)
MOBILENET_V3_SMALL = _rule(SMALL)
