"""timm's MobileNet V3: its own, and its copies of TF-slim's (`tf_`), minimalistic ones among them.

They have the same names, but other padding and normalization: two origins, timm and timm-tf.
"""

from collections.abc import Iterator
from functools import partial

from convert.layouts import TORCH
from convert.rule import Options, Published, Rule
from convert.rules.timm.files import HALF, preset, published
from convert.rules.torchvision.mobilenet_v3 import scale_as, widths
from flaxmobile.models.mobilenet_v3 import LARGE, SMALL, Table

_BLOCK = {"expand": "conv_pw", "depthwise": "conv_dw", "project": "conv_pwl"}
_FIRST_BLOCK = {"depthwise": "conv_dw", "project": "conv_pw"}


def _modules(table: Table, options: Options) -> Iterator[tuple[str, str]]:
    yield "stem/conv", "conv_stem"
    yield "stem/norm", "bn1"
    for block in scale_as(table, options).blocks:
        stage, number = block.name.removeprefix("stage").split("_block")
        ours, theirs = block.name, f"blocks.{int(stage) - 1}.{int(number) - 1}"
        layers = _FIRST_BLOCK if stage == "1" else _BLOCK
        for position, (layer, conv) in enumerate(layers.items(), start=1):
            if layer == "project" and block.row.stage.squeeze and not options["minimalistic"]:
                yield f"{ours}/squeeze/reduce", f"{theirs}.se.conv_reduce"
                yield f"{ours}/squeeze/expand", f"{theirs}.se.conv_expand"
            yield f"{ours}/{layer}/conv", f"{theirs}.{conv}"
            yield f"{ours}/{layer}/norm", f"{theirs}.bn{position}"
    last = f"blocks.{len(table.stages)}.0"
    yield "last/conv", f"{last}.conv"
    yield "last/norm", f"{last}.bn1"
    yield "hidden", "conv_head"
    yield "classifier", "classifier"


_OPTIONS: Options = {
    "norm_momentum": 0.9,
    "last_channel": "paper",
    "reduced_tail": False,
    "hidden_layer": True,
    "dilated": False,
}
_TIMM = {**_OPTIONS, "padding": "symmetric", "norm_epsilon": 1e-5, "minimalistic": False}
_TF = {**_OPTIONS, "padding": "same", "norm_epsilon": 1e-3}

_HALVES = preset(mean=HALF, std=HALF)
_BICUBIC = preset(interpolation="bicubic")
_UNSCALED = preset(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))

LARGE_FILES = (
    published("mobilenetv3_large_100.ra_in1k", "mobilenetv3_large_100_ra-f55367f5", _BICUBIC),
    published(
        "mobilenetv3_large_100.miil_in21k_ft_in1k",
        "mobilenetv3_large_100_1k_miil_78_0-66471c13",
        _UNSCALED,
        release="v0.1-tresnet",
    ),
    published(
        "mobilenetv3_large_100.miil_in21k",
        "mobilenetv3_large_100_in21k_miil-d71cc17b",
        _UNSCALED,
        release="v0.1-tresnet",
    ),
)
SMALL_FILES = (
    published("mobilenetv3_small_050.lamb_in1k", "mobilenetv3_small_050_lambc-4b7bbe87", _BICUBIC),
    published("mobilenetv3_small_075.lamb_in1k", "mobilenetv3_small_075_lambc-384766db", _BICUBIC),
    published("mobilenetv3_small_100.lamb_in1k", "mobilenetv3_small_100_lamb-266a294c", _BICUBIC),
)
TF_LARGE_FILES = (
    published("tf_mobilenetv3_large_075.in1k", "tf_mobilenetv3_large_075-150ee8b0", _HALVES),
    published("tf_mobilenetv3_large_100.in1k", "tf_mobilenetv3_large_100-427764d5", _HALVES),
    published(
        "tf_mobilenetv3_large_minimal_100.in1k",
        "tf_mobilenetv3_large_minimal_100-8596ae28",
        _HALVES,
    ),
)
TF_SMALL_FILES = (
    published("tf_mobilenetv3_small_075.in1k", "tf_mobilenetv3_small_075-da427f52", _HALVES),
    published("tf_mobilenetv3_small_100.in1k", "tf_mobilenetv3_small_100-37f49e2b", _HALVES),
    published(
        "tf_mobilenetv3_small_minimal_100.in1k",
        "tf_mobilenetv3_small_minimal_100-922a7843",
        _HALVES,
    ),
)


def _rule(table: Table, files: tuple[Published, ...]) -> Rule:
    return Rule(
        layout=TORCH,
        modules=partial(_modules, table),
        own_options=_TIMM,
        widths=partial(widths, table),
        preprocessing=_BICUBIC,
        published=files,
        as_convolutions=("hidden",),
        removable={"hidden": "hidden_layer"},
    )


def _tf_rule(table: Table, files: tuple[Published, ...]) -> Rule:
    return _rule(table, files)._replace(
        own_options=_TF,
        preprocessing=_HALVES,
        variants=({"minimalistic": False}, {"minimalistic": True}),
    )


MOBILENET_V3_LARGE = _rule(LARGE, LARGE_FILES)
MOBILENET_V3_SMALL = _rule(SMALL, SMALL_FILES)
TF_MOBILENET_V3_LARGE = _tf_rule(LARGE, TF_LARGE_FILES)
TF_MOBILENET_V3_SMALL = _tf_rule(SMALL, TF_SMALL_FILES)
