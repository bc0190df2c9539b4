"""Keras's InceptionResNetV2. Only the convolutions that widen a block, and the last, have names."""

from collections.abc import Iterator

from convert.imagenet import class_names_without_background
from convert.layouts import KERAS
from convert.rule import Options, Rule
from convert.rules.keras.blocks import (
    WITHOUT_SCALE,
    by_depth,
    by_order,
    conv_norm,
    numbered_conv_norm,
    units_of,
)
from convert.rules.keras.presets import preset
from flaxmobile.layers.branches import Unit
from flaxmobile.models import inception_resnet_v2

_STEM = tuple(f"stem_conv{number}" for number in (1, 2, 3, 4, 5))


def _modules(options: Options) -> Iterator[tuple[str, str]]:
    for number, ours in enumerate(_STEM):
        yield from numbered_conv_norm(ours, number)
    made = len(_STEM)
    network = inception_resnet_v2.InceptionResNetV2(repeats=options["repeats"])
    for block, row, *_ in network.blocks():
        is_residual = isinstance(row, inception_resnet_v2.Residual)
        if not is_residual and not block.startswith("mixed"):
            continue
        layers = row.branches if is_residual else row
        branches = [[unit.name for unit in row if isinstance(unit, Unit)] for row in layers]
        branches = [branch for branch in branches if branch]  # the pooling has no unit
        numbers = {name: number for number, name in enumerate(units_of(branches), start=made)}
        made += len(numbers)
        for name in by_depth(branches):
            place = f"{block}/branches" if is_residual else block
            yield from numbered_conv_norm(f"{place}/{name}", numbers[name])
        if is_residual:
            yield f"{block}/widen", f"{block}_conv"
    yield from conv_norm("conv7b", "conv_7b", "conv_7b_bn")
    yield "classifier", "predictions"


INCEPTION_RESNET_V2 = Rule(
    layout=KERAS,
    modules=_modules,
    other_names=(by_order(_modules),),
    own_options={
        "alpha": 1.0,
        "repeats": (10, 20, 10),
        "padding": "same",
        "norm_epsilon": 1e-3,
        "norm_momentum": 0.99,
    },
    constants=WITHOUT_SCALE,
    preprocessing=preset(299),
    class_names=class_names_without_background,
)
