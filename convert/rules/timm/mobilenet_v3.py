"""timm's MobileNet V3: its own, and its copies of TF-slim's (`tf_`), also the minimalistic ones.

They have the same names, but other padding and normalization: two origins, timm and timm-tf.
"""

from convert.layouts import TORCH
from convert.rule import Options, Published, Rule
from convert.rules.timm.blocks import inverted_residual
from convert.rules.timm.files import HALF, preset, published
from convert.rules.units import Names, unit
from convert.rules.widths import mobilenet_v3_widths
from flaxmobile.models.mobilenet_v3 import MobileNetV3, MobileNetV3Large, MobileNetV3Small


def _modules(model: MobileNetV3) -> Names:
    yield from unit("stem", "", "conv_stem", "bn1")
    for block in model.scaled.blocks:
        squeezes = block.row.stage.squeeze and not model.minimalistic
        yield from inverted_residual(block, not block.name.startswith("stage1_"), squeezes)
    yield from unit("last", f"blocks.{len(model.table.stages)}.0", ".conv", ".bn1")
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

_LARGE_FILES = (
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
_SMALL_FILES = (
    published("mobilenetv3_small_050.lamb_in1k", "mobilenetv3_small_050_lambc-4b7bbe87", _BICUBIC),
    published("mobilenetv3_small_075.lamb_in1k", "mobilenetv3_small_075_lambc-384766db", _BICUBIC),
    published("mobilenetv3_small_100.lamb_in1k", "mobilenetv3_small_100_lamb-266a294c", _BICUBIC),
)
_TF_LARGE_FILES = (
    published("tf_mobilenetv3_large_075.in1k", "tf_mobilenetv3_large_075-150ee8b0", _HALVES),
    published("tf_mobilenetv3_large_100.in1k", "tf_mobilenetv3_large_100-427764d5", _HALVES),
    published(
        "tf_mobilenetv3_large_minimal_100.in1k",
        "tf_mobilenetv3_large_minimal_100-8596ae28",
        _HALVES,
    ),
)
_TF_SMALL_FILES = (
    published("tf_mobilenetv3_small_075.in1k", "tf_mobilenetv3_small_075-da427f52", _HALVES),
    published("tf_mobilenetv3_small_100.in1k", "tf_mobilenetv3_small_100-37f49e2b", _HALVES),
    published(
        "tf_mobilenetv3_small_minimal_100.in1k",
        "tf_mobilenetv3_small_minimal_100-922a7843",
        _HALVES,
    ),
)


def _rule(network: type[MobileNetV3], files: tuple[Published, ...]) -> Rule:
    return Rule(
        network=network,
        layout=TORCH,
        modules=_modules,
        own_options=_TIMM,
        widths=mobilenet_v3_widths,
        preprocessing=_BICUBIC,
        published=files,
        as_convolutions=("hidden",),
        removable={"hidden": "hidden_layer"},
    )


def _tf_rule(network: type[MobileNetV3], files: tuple[Published, ...]) -> Rule:
    return _rule(network, files)._replace(
        own_options=_TF,
        preprocessing=_HALVES,
        variants=({"minimalistic": False}, {"minimalistic": True}),
    )


LARGE = _rule(MobileNetV3Large, _LARGE_FILES)
SMALL = _rule(MobileNetV3Small, _SMALL_FILES)
TF_LARGE = _tf_rule(MobileNetV3Large, _TF_LARGE_FILES)
TF_SMALL = _tf_rule(MobileNetV3Small, _TF_SMALL_FILES)
