"""timm's Inception-v4."""

from collections.abc import Iterator

from convert.layouts import TORCH
from convert.rule import Options, Rule
from convert.rules.timm.blocks import conv_norm_act
from convert.rules.timm.files import HALF, preset
from flaxmobile.models import inception_v4

_LAYERS = {
    "mixed3a": {"conv3x3": "conv"},
    "mixed4a": {
        "branch3x3_reduce": "branch0.0",
        "branch3x3": "branch0.1",
        "branch7x7_reduce": "branch1.0",
        "branch7x7_1x7": "branch1.1",
        "branch7x7_7x1": "branch1.2",
        "branch7x7_3x3": "branch1.3",
    },
    "mixed5a": {"conv3x3": "conv"},
    "inception_a": {
        "branch1x1": "branch0",
        "branch3x3_reduce": "branch1.0",
        "branch3x3": "branch1.1",
        "double3x3_reduce": "branch2.0",
        "double3x3_1": "branch2.1",
        "double3x3_2": "branch2.2",
        "pool_project": "branch3.1",
    },
    "reduction_a": {
        "branch3x3": "branch0",
        "double3x3_reduce": "branch1.0",
        "double3x3_1": "branch1.1",
        "double3x3_2": "branch1.2",
    },
    "inception_b": {
        "branch1x1": "branch0",
        "branch7x7_reduce": "branch1.0",
        "branch7x7_1x7": "branch1.1",
        "branch7x7_7x1": "branch1.2",
        "double7x7_reduce": "branch2.0",
        "double7x7_1_7x1": "branch2.1",
        "double7x7_1_1x7": "branch2.2",
        "double7x7_2_7x1": "branch2.3",
        "double7x7_2_1x7": "branch2.4",
        "pool_project": "branch3.1",
    },
    "reduction_b": {
        "branch3x3_reduce": "branch0.0",
        "branch3x3": "branch0.1",
        "branch7x7_reduce": "branch1.0",
        "branch7x7_1x7": "branch1.1",
        "branch7x7_7x1": "branch1.2",
        "branch7x7_3x3": "branch1.3",
    },
    "inception_c": {
        "branch1x1": "branch0",
        "branch3x3_reduce": "branch1_0",
        "branch3x3_1x3": "branch1_1a",
        "branch3x3_3x1": "branch1_1b",
        "double3x3_reduce": "branch2_0",
        "double3x3_1_3x1": "branch2_1",
        "double3x3_1_1x3": "branch2_2",
        "double3x3_2_1x3": "branch2_3a",
        "double3x3_2_3x1": "branch2_3b",
        "pool_project": "branch3.1",
    },
}
"""Kind of block -> our layer in it -> theirs."""

_STEM = ("stem_conv1", "stem_conv2", "stem_conv3")


def _modules(options: Options) -> Iterator[tuple[str, str]]:
    for index, ours in enumerate(_STEM):
        yield from conv_norm_act(ours, f"features.{index}")
    blocks = inception_v4.InceptionV4(repeats=options["repeats"]).blocks()[len(_STEM) :]
    for index, (block, *_) in enumerate(blocks, start=len(_STEM)):
        kind = block if block in _LAYERS else block.rstrip("0123456789")
        for ours, theirs in _LAYERS[kind].items():
            yield from conv_norm_act(f"{block}/{ours}", f"features.{index}.{theirs}")
    yield "classifier", "last_linear"


INCEPTION_V4 = Rule(
    layout=TORCH,
    modules=_modules,
    own_options={
        "alpha": 1.0,
        "repeats": (4, 7, 3),
        "padding": "symmetric",
        "norm_epsilon": 1e-3,
    },
    preprocessing=preset(299, mean=HALF, std=HALF, interpolation="bicubic"),
)
