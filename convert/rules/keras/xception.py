"""Keras's Xception. The convolutions of its shortcuts have no names but numbers."""

from collections.abc import Iterator

from convert.imagenet import class_names_without_background
from convert.layouts import KERAS
from convert.rule import Options, Rule
from convert.rules.keras.blocks import by_order, conv_norm, numbered_conv_norm
from convert.rules.keras.presets import preset
from flaxmobile.models import xception


def _modules(options: Options) -> Iterator[tuple[str, str]]:
    for number in (1, 2):
        name = f"block1_conv{number}"
        yield from conv_norm(f"stem_conv{number}", name, f"{name}_bn")
    shortcuts = 0
    for block, module in enumerate(xception.modules(options["middle_blocks"]), start=2):
        for number in range(1, len(module.channels) + 1):
            yield from _separable(f"{module.name}/separable{number}", block, number)
        if module.stride > 1:
            yield from numbered_conv_norm(f"{module.name}/shortcut", shortcuts)
            shortcuts += 1
    for number in (1, 2):
        yield from _separable(f"exit_separable{number}", block + 1, number)
    yield "classifier", "predictions"


def _separable(ours: str, block: int, number: int) -> Iterator[tuple[str, str]]:
    name = f"block{block}_sepconv{number}"
    yield f"{ours}/depthwise", f"{name}/depthwise"
    yield from conv_norm(f"{ours}/pointwise", f"{name}/pointwise", f"{name}_bn")


XCEPTION = Rule(
    layout=KERAS,
    modules=_modules,
    other_names=(by_order(_modules),),
    own_options={
        "alpha": 1.0,
        "middle_blocks": 8,
        "order": "depthwise_first",
        "padding": "same",
        "norm_epsilon": 1e-3,
        "norm_momentum": 0.99,
    },
    preprocessing=preset(299),
    class_names=class_names_without_background,
)
