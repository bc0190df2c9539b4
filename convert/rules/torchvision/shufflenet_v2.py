"""torchvision's ShuffleNet V2."""

from typing import Any

from convert.layouts import TORCH
from convert.rule import Published, Rule
from convert.rules.torchvision.files import CLOSER, STANDARD, published
from convert.rules.units import Names, listed, sequential
from convert.rules.widths import shufflenet_v2_widths
from flaxmobile.models.shufflenet_v2 import ShuffleNetV2

_SHORTCUT = (("shortcut_depthwise", "branch1", 0), ("shortcut_pointwise", "branch1", 2))
_TRANSFORM = (
    ("pointwise1", "branch2", 0),
    ("depthwise", "branch2", 3),
    ("pointwise2", "branch2", 5),
)
"""Our layer, their branch, its place there."""


def _modules(model: ShuffleNetV2) -> Names:
    stem, _, *units = model.blocks()
    yield from sequential(stem.name, "conv1")
    for unit in units:
        stage, number = unit.name.split("_block")
        theirs = f"{stage}.{int(number) - 1}"
        for layer, branch, place in (*(_SHORTCUT if unit.stride == 2 else ()), *_TRANSFORM):
            yield from listed(f"{unit.name}/{layer}", f"{theirs}.{branch}", place)
    yield from sequential("head", "conv5")
    yield "classifier", "fc"


def _published(width: str, *facts: Any, **more: Any) -> Published:
    return published(f"shufflenet_v2_{width}.IMAGENET1K_V1", *facts, **more)


def _quantized(width: str, file: str, *facts: Any, **more: Any) -> Published:
    name = f"quantized_shufflenet_v2_{width}.IMAGENET1K_FBGEMM_V1"
    return published(name, f"quantized/shufflenetv2_{file}", *facts, **more)


RULE = Rule(
    network=ShuffleNetV2,
    layout=TORCH,
    modules=_modules,
    variants=tuple({"alpha": alpha} for alpha in (1.0, 0.5, 1.5, 2.0)),
    widths=shufflenet_v2_widths,
    preprocessing=STANDARD,
    published=(
        _published("x1_0", "shufflenetv2_x1-5666bf0f80", 2_278_604, 69.362),
        _published("x0_5", "shufflenetv2_x0.5-f707e7126e", 1_366_792, 60.552, alpha=0.5),
        _published("x1_5", "shufflenetv2_x1_5-3c479a10", 3_503_624, 72.996, CLOSER, 1.5),
        _published("x2_0", "shufflenetv2_x2_0-8be3c8ee", 7_393_996, 76.23, CLOSER, 2.0),
        _quantized("x0_5", "x0.5_fbgemm-00845098", 1_366_792, 57.972, alpha=0.5),
        _quantized("x1_0", "x1_fbgemm-1e62bb32", 2_278_604, 68.36),
        _quantized("x1_5", "x1_5_fbgemm-d7401f05", 3_503_624, 72.052, CLOSER, 1.5),
        _quantized("x2_0", "x2_0_fbgemm-5cac526c", 7_393_996, 75.354, CLOSER, 2.0),
    ),
)
