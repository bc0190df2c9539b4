"""torchvision's Inception V3."""

from convert.layouts import TORCH
from convert.rule import Rule
from convert.rules.torchvision.files import ASKED, INCEPTION, published, transformed
from convert.rules.units import Names, basic_conv
from flaxmobile.models.inception_v3 import AUXILIARY_AFTER, InceptionV3

STEM = {
    "stem_conv1": "Conv2d_1a_3x3",
    "stem_conv2": "Conv2d_2a_3x3",
    "stem_conv3": "Conv2d_2b_3x3",
    "stem_conv4": "Conv2d_3b_1x1",
    "stem_conv5": "Conv2d_4a_3x3",
}
_A = {
    "branch1x1": "branch1x1",
    "branch5x5_reduce": "branch5x5_1",
    "branch5x5": "branch5x5_2",
    "double3x3_reduce": "branch3x3dbl_1",
    "double3x3_1": "branch3x3dbl_2",
    "double3x3_2": "branch3x3dbl_3",
    "pool_project": "branch_pool",
}
_B = {
    "branch3x3": "branch3x3",
    "double3x3_reduce": "branch3x3dbl_1",
    "double3x3_1": "branch3x3dbl_2",
    "double3x3_2": "branch3x3dbl_3",
}
_C = {
    "branch1x1": "branch1x1",
    "branch7x7_reduce": "branch7x7_1",
    "branch7x7_1x7": "branch7x7_2",
    "branch7x7_7x1": "branch7x7_3",
    "double7x7_reduce": "branch7x7dbl_1",
    "double7x7_1_7x1": "branch7x7dbl_2",
    "double7x7_1_1x7": "branch7x7dbl_3",
    "double7x7_2_7x1": "branch7x7dbl_4",
    "double7x7_2_1x7": "branch7x7dbl_5",
    "pool_project": "branch_pool",
}
_D = {
    "branch3x3_reduce": "branch3x3_1",
    "branch3x3": "branch3x3_2",
    "branch7x7_reduce": "branch7x7x3_1",
    "branch7x7_1x7": "branch7x7x3_2",
    "branch7x7_7x1": "branch7x7x3_3",
    "branch7x7_3x3": "branch7x7x3_4",
}
_E = {
    "branch1x1": "branch1x1",
    "branch3x3_reduce": "branch3x3_1",
    "branch3x3_1x3": "branch3x3_2a",
    "branch3x3_3x1": "branch3x3_2b",
    "double3x3_reduce": "branch3x3dbl_1",
    "double3x3": "branch3x3dbl_2",
    "double3x3_1x3": "branch3x3dbl_3a",
    "double3x3_3x1": "branch3x3dbl_3b",
    "pool_project": "branch_pool",
}
LAYERS = {
    **dict.fromkeys(("mixed5b", "mixed5c", "mixed5d"), _A),
    "mixed6a": _B,
    **dict.fromkeys(("mixed6b", "mixed6c", "mixed6d", "mixed6e"), _C),
    "mixed7a": _D,
    **dict.fromkeys(("mixed7b", "mixed7c"), _E),
    "auxiliary": {"project": "conv0", "conv5x5": "conv1"},
}
"""Module -> our layer in it -> theirs."""


def _modules(model: InceptionV3) -> Names:
    for block in model.blocks():
        if block.name in STEM:
            yield from basic_conv(block.name, STEM[block.name])
        theirs = block.name.replace("mixed", "Mixed_")
        for our_layer, their_layer in LAYERS.get(block.name, {}).items():
            yield from basic_conv(f"{block.name}/{our_layer}", f"{theirs}.{their_layer}")
        if block.name == AUXILIARY_AFTER and model.aux_logits:
            for our_layer, their_layer in LAYERS["auxiliary"].items():
                yield from basic_conv(f"auxiliary/{our_layer}", f"AuxLogits.{their_layer}")
            yield "auxiliary/classifier", "AuxLogits.fc"
    yield "classifier", "fc"


RULE = Rule(
    network=InceptionV3,
    layout=TORCH,
    modules=_modules,
    own_options={"alpha": 1.0},
    variants=({"aux_logits": True}, {"aux_logits": False}),
    asked=ASKED,
    preprocessing=INCEPTION,
    published=(
        published(
            "inception_v3.IMAGENET1K_V1",
            "inception_v3_google-0cc3c7bd",
            27_161_264,
            77.294,
            transformed(INCEPTION),
        ),
        published(
            "quantized_inception_v3.IMAGENET1K_FBGEMM_V1",
            "quantized/inception_v3_google_fbgemm-a2837893",
            27_161_264,
            77.176,
            transformed(INCEPTION),
        ),
    ),
)
