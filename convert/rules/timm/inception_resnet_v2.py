"""timm's Inception-ResNet-v2."""

from collections.abc import Iterator

from convert.layouts import TORCH
from convert.rule import Options, Rule
from convert.rules.timm.blocks import conv_norm_act
from convert.rules.timm.files import HALF, preset

_STEM = {
    "stem_conv1": "conv2d_1a",
    "stem_conv2": "conv2d_2a",
    "stem_conv3": "conv2d_2b",
    "stem_conv4": "conv2d_3b",
    "stem_conv5": "conv2d_4a",
}
_MIXED = {
    "mixed5b": {
        "branch1x1": "branch0",
        "branch5x5_reduce": "branch1.0",
        "branch5x5": "branch1.1",
        "double3x3_reduce": "branch2.0",
        "double3x3_1": "branch2.1",
        "double3x3_2": "branch2.2",
        "pool_project": "branch3.1",
    },
    "mixed6a": {
        "branch3x3": "branch0",
        "double3x3_reduce": "branch1.0",
        "double3x3_1": "branch1.1",
        "double3x3_2": "branch1.2",
    },
    "mixed7a": {
        "branch3x3_a_reduce": "branch0.0",
        "branch3x3_a": "branch0.1",
        "branch3x3_b_reduce": "branch1.0",
        "branch3x3_b": "branch1.1",
        "double3x3_reduce": "branch2.0",
        "double3x3_1": "branch2.1",
        "double3x3_2": "branch2.2",
    },
}
_RESIDUAL = {
    "block35": {
        "branch1x1": "branch0",
        "branch3x3_reduce": "branch1.0",
        "branch3x3": "branch1.1",
        "double3x3_reduce": "branch2.0",
        "double3x3_1": "branch2.1",
        "double3x3_2": "branch2.2",
    },
    "block17": {
        "branch1x1": "branch0",
        "branch7x7_reduce": "branch1.0",
        "branch7x7_1x7": "branch1.1",
        "branch7x7_7x1": "branch1.2",
    },
    "block8": {
        "branch1x1": "branch0",
        "branch3x3_reduce": "branch1.0",
        "branch3x3_1x3": "branch1.1",
        "branch3x3_3x1": "branch1.2",
    },
}
"""Module or kind of module -> our layer in it -> theirs."""


def _modules(options: Options) -> Iterator[tuple[str, str]]:
    for ours, theirs in _STEM.items():
        yield from conv_norm_act(ours, theirs)
    count35, count17, count8 = options["repeats"]
    yield from _mixed("mixed5b")
    for number in range(count35):
        yield from _residual("block35", number, f"repeat.{number}")
    yield from _mixed("mixed6a")
    for number in range(count17):
        yield from _residual("block17", number, f"repeat_1.{number}")
    yield from _mixed("mixed7a")
    for number in range(count8 - 1):
        yield from _residual("block8", number, f"repeat_2.{number}")
    yield from _residual("block8", count8 - 1, "block8")
    yield from conv_norm_act("conv7b", "conv2d_7b")
    yield "classifier", "classif"


def _mixed(name: str) -> Iterator[tuple[str, str]]:
    for ours, theirs in _MIXED[name].items():
        yield from conv_norm_act(f"{name}/{ours}", f"{name.replace('mixed', 'mixed_')}.{theirs}")


def _residual(kind: str, number: int, theirs: str) -> Iterator[tuple[str, str]]:
    block = f"{kind}_{number + 1}"
    for our_layer, their_layer in _RESIDUAL[kind].items():
        yield from conv_norm_act(f"{block}/branches/{our_layer}", f"{theirs}.{their_layer}")
    yield f"{block}/widen", f"{theirs}.conv2d"


INCEPTION_RESNET_V2 = Rule(
    layout=TORCH,
    modules=_modules,
    own_options={
        "alpha": 1.0,
        "repeats": (10, 20, 10),
        "padding": "symmetric",
        "norm_epsilon": 1e-3,
    },
    preprocessing=preset(299, 0.8975, mean=HALF, std=HALF, interpolation="bicubic"),
)
