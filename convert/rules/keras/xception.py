"""Keras's Xception. The convolutions of its shortcuts are numbered, not named."""

from convert.class_names import imagenet_names_without_background
from convert.layouts import KERAS
from convert.rule import Rule
from convert.rules.keras.blocks import by_order, numbered_unit, with_bn
from convert.rules.keras.files import published
from convert.rules.keras.presets import preset
from convert.rules.units import Names, unit
from flaxmobile.models.xception import Module, Xception


def _modules(model: Xception) -> Names:
    modules = [block.row for block in model.blocks() if isinstance(block.row, Module)]
    for number in (1, 2):
        yield from with_bn(f"stem_conv{number}", f"block1_conv{number}")
    shortcuts = 0
    for block, module in enumerate(modules, start=2):
        for number in range(1, len(module.channels) + 1):
            yield from _separable(f"{module.name}/separable{number}", block, number)
        if module.stride > 1:
            yield from numbered_unit(f"{module.name}/shortcut", shortcuts)
            shortcuts += 1
    for number in (1, 2):
        yield from _separable(f"exit_separable{number}", len(modules) + 2, number)
    yield "classifier", "predictions"


def _separable(ours: str, block: int, number: int) -> Names:
    name = f"block{block}_sepconv{number}"
    yield f"{ours}/depthwise", f"{name}/depthwise"
    yield from unit(f"{ours}/pointwise", name, "/pointwise", "_bn")


RULE = Rule(
    network=Xception,
    layout=KERAS,
    modules=_modules,
    other_names=(by_order(_modules),),
    own_options={
        "alpha": 1.0,
        "padding": "same",
        "norm_epsilon": 1e-3,
        "norm_momentum": 0.99,
    },
    preprocessing=preset(299),
    published=(
        published(
            "Xception",
            "xception/xception_weights_tf_dim_ordering_tf_kernels",
            22_855_952,
            299,
            md5="0a58e3b7378bc2990ea3b43d5981f1f6",
        ),
    ),
    class_names=imagenet_names_without_background,
)
