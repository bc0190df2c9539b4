"""timm's Inception-ResNet-v2."""

from convert.layouts import TORCH
from convert.rule import Rule
from convert.rules.timm.files import HALF, preset, published
from convert.rules.units import Names, basic_conv, branches
from flaxmobile.models.inception_resnet_v2 import InceptionResNetV2, Residual

_UNITS = {
    "stem_conv1": "conv2d_1a",
    "stem_conv2": "conv2d_2a",
    "stem_conv3": "conv2d_2b",
    "stem_conv4": "conv2d_3b",
    "stem_conv5": "conv2d_4a",
    "conv7b": "conv2d_7b",
}
_LISTS = {"block35": "repeat", "block17": "repeat_1", "block8": "repeat_2"}
"""Kind of residual block -> the list that holds all of them but the last `block8`."""


def _modules(model: InceptionResNetV2) -> Names:
    last_residual = model.blocks()[-2].name
    for name, row, *_ in model.blocks():
        if name in _UNITS:
            yield from basic_conv(name, _UNITS[name])
        elif isinstance(row, Residual):
            kind, number = name.split("_")
            listed = f"{_LISTS[kind]}.{int(number) - 1}"
            theirs = "block8" if name == last_residual else listed
            yield from branches(f"{name}/branches", theirs, row.branches)
            yield f"{name}/widen", f"{theirs}.conv2d"
        elif name.startswith("mixed"):
            yield from branches(name, name.replace("mixed", "mixed_"), row)
    yield "classifier", "classif"


_PRESET = preset(299, 0.8975, mean=HALF, std=HALF, interpolation="bicubic")

RULE = Rule(
    network=InceptionResNetV2,
    layout=TORCH,
    modules=_modules,
    own_options={"alpha": 1.0},
    preprocessing=_PRESET,
    published=(
        published("inception_resnet_v2.tf_in1k", 55_843_464, _PRESET),
        published("inception_resnet_v2.tf_ens_adv_in1k", 55_843_464, _PRESET),
    ),
)
