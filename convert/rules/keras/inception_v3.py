"""Keras's InceptionV3, whose convolutions and normalizations are numbered as they are made."""

from collections.abc import Iterator

from convert.imagenet import class_names_without_background
from convert.layouts import KERAS
from convert.rule import Options, Rule
from convert.rules.keras.blocks import (
    WITHOUT_SCALE,
    Branch,
    by_depth,
    by_order,
    numbered_conv_norm,
    units_of,
)
from convert.rules.keras.presets import preset
from flaxmobile.models import inception_v3

_STEM = tuple(f"stem_conv{number}" for number in (1, 2, 3, 4, 5))
_A: tuple[Branch, ...] = (
    ("branch1x1",),
    ("branch5x5_reduce", "branch5x5"),
    ("double3x3_reduce", "double3x3_1", "double3x3_2"),
    ("pool_project",),
)
_B: tuple[Branch, ...] = (("branch3x3",), ("double3x3_reduce", "double3x3_1", "double3x3_2"))
_C: tuple[Branch, ...] = (
    ("branch1x1",),
    ("branch7x7_reduce", "branch7x7_1x7", "branch7x7_7x1"),
    (
        "double7x7_reduce",
        "double7x7_1_7x1",
        "double7x7_1_1x7",
        "double7x7_2_7x1",
        "double7x7_2_1x7",
    ),
    ("pool_project",),
)
_D: tuple[Branch, ...] = (
    ("branch3x3_reduce", "branch3x3"),
    ("branch7x7_reduce", "branch7x7_1x7", "branch7x7_7x1", "branch7x7_3x3"),
)
_E: tuple[Branch, ...] = (
    ("branch1x1",),
    ("branch3x3_reduce", ("branch3x3_1x3", "branch3x3_3x1")),
    ("double3x3_reduce", "double3x3", ("double3x3_1x3", "double3x3_3x1")),
    ("pool_project",),
)
_BRANCHES = {"mixed5": _A, "mixed6a": _B, "mixed6": _C, "mixed7a": _D, "mixed7": _E}


def _modules(options: Options) -> Iterator[tuple[str, str]]:
    for number, ours in enumerate(_STEM):
        yield from numbered_conv_norm(ours, number)
    made = len(_STEM)
    for module, *_ in inception_v3.TABLE:
        if not module.startswith("mixed"):
            continue
        branches = _BRANCHES.get(module) or _BRANCHES[module[:-1]]
        numbers = {name: number for number, name in enumerate(units_of(branches), start=made)}
        made += len(numbers)
        for name in by_depth(branches):
            yield from numbered_conv_norm(f"{module}/{name}", numbers[name])
    yield "classifier", "predictions"


INCEPTION_V3 = Rule(
    layout=KERAS,
    modules=_modules,
    other_names=(by_order(_modules),),
    own_options={
        "alpha": 1.0,
        "aux_logits": False,
        "transform_input": False,
        "padding": "same",
        "norm_epsilon": 1e-3,
        "norm_momentum": 0.99,
    },
    constants=WITHOUT_SCALE,
    preprocessing=preset(299),
    class_names=class_names_without_background,
)
