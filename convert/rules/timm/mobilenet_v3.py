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
        yield from inverted_residual(block, block.row.expands, model.squeezes(block.row))
    yield from unit("last", f"blocks.{len(model.table.stages)}.0", ".conv", ".bn1")
    yield "hidden", "conv_head"
    yield "classifier", "classifier"


_OPTIONS: Options = {"norm_momentum": 0.9, "last_channel": "paper"}

_HALVES = preset(mean=HALF, std=HALF)
_BICUBIC = preset(interpolation="bicubic")
_CLOSER = preset(crop=0.95, mean=HALF, std=HALF, interpolation="bicubic")
_UNSCALED = preset(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))

_LARGE_FILES = (
    published(
        "mobilenetv3_large_100.ra_in1k", 5_483_032, _BICUBIC, "mobilenetv3_large_100_ra-f55367f5"
    ),
    published("mobilenetv3_large_100.ra4_e3600_r224_in1k", 5_483_032, _CLOSER),
    published(
        "mobilenetv3_large_100.miil_in21k_ft_in1k",
        5_483_032,
        _UNSCALED,
        "mobilenetv3_large_100_1k_miil_78_0-66471c13",
        release="v0.1-tresnet",
    ),
    published(
        "mobilenetv3_large_100.miil_in21k",
        18_576_133,
        _UNSCALED,
        "mobilenetv3_large_100_in21k_miil-d71cc17b",
        release="v0.1-tresnet",
    ),
)
_SMALL_FILES = (
    published(
        "mobilenetv3_small_100.lamb_in1k",
        2_542_856,
        _BICUBIC,
        "mobilenetv3_small_100_lamb-266a294c",
    ),
    published(
        "mobilenetv3_small_050.lamb_in1k",
        1_593_224,
        _BICUBIC,
        "mobilenetv3_small_050_lambc-4b7bbe87",
    ),
    published(
        "mobilenetv3_small_075.lamb_in1k",
        2_041_872,
        _BICUBIC,
        "mobilenetv3_small_075_lambc-384766db",
    ),
)


def _tf_published(width: str, params: int, digits: str) -> Published:
    name = f"tf_mobilenetv3_{width}"
    return published(f"{name}.in1k", params, _HALVES, f"{name}-{digits}")


_TF_LARGE_FILES = (
    _tf_published("large_100", 5_483_032, "427764d5"),
    _tf_published("large_075", 3_993_528, "150ee8b0"),
    _tf_published("large_minimal_100", 3_924_288, "8596ae28"),
)
_TF_SMALL_FILES = (
    _tf_published("small_100", 2_542_856, "37f49e2b"),
    _tf_published("small_075", 2_041_872, "da427f52"),
    _tf_published("small_minimal_100", 2_044_736, "922a7843"),
)


def _rule(network: type[MobileNetV3], files: tuple[Published, ...]) -> Rule:
    return Rule(
        network=network,
        layout=TORCH,
        modules=_modules,
        own_options={**_OPTIONS, "norm_epsilon": 1e-5},
        widths=mobilenet_v3_widths,
        preprocessing=_BICUBIC,
        published=files,
        as_convolutions=("hidden",),
        removable={"hidden": "hidden_layer"},
    )


def _tf_rule(network: type[MobileNetV3], files: tuple[Published, ...]) -> Rule:
    return _rule(network, files)._replace(
        own_options={**_OPTIONS, "padding": "same"},
        preprocessing=_HALVES,
        variants=({"minimalistic": False}, {"minimalistic": True}),
    )


LARGE = _rule(MobileNetV3Large, _LARGE_FILES)
SMALL = _rule(MobileNetV3Small, _SMALL_FILES)
TF_LARGE = _tf_rule(MobileNetV3Large, _TF_LARGE_FILES)
TF_SMALL = _tf_rule(MobileNetV3Small, _TF_SMALL_FILES)
