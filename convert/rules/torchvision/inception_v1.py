"""torchvision's GoogLeNet."""

from convert.layouts import TORCH
from convert.rule import Rule
from convert.rules.torchvision.files import ASKED, STANDARD, published, transformed
from convert.rules.units import Names, basic_conv, branches
from flaxmobile.models.inception_v1 import InceptionV1

_UNITS = {"stem": "conv1", "conv2_reduce": "conv2", "conv2": "conv3"}


def _modules(model: InceptionV1) -> Names:
    for block in model.blocks():
        if block.name in _UNITS:
            yield from basic_conv(block.name, _UNITS[block.name])
        elif block.name.startswith("inception"):
            yield from branches(block.name, block.name, block.row, first=1)
    if model.aux_logits:
        for ours, theirs in (("auxiliary1", "aux1"), ("auxiliary2", "aux2")):
            yield from basic_conv(f"{ours}/project", f"{theirs}.conv")
            yield f"{ours}/hidden", f"{theirs}.fc1"
            yield f"{ours}/classifier", f"{theirs}.fc2"
    yield "classifier", "fc"


RULE = Rule(
    network=InceptionV1,
    layout=TORCH,
    modules=_modules,
    own_options={"alpha": 1.0},
    variants=({"aux_logits": True}, {"aux_logits": False}),
    asked=ASKED,
    preprocessing=STANDARD,
    published=(
        published(
            "googlenet.IMAGENET1K_V1",
            "googlenet-1378be20",
            6_624_904,
            69.778,
            transformed(STANDARD),
        ),
        published(
            "quantized_googlenet.IMAGENET1K_FBGEMM_V1",
            "quantized/googlenet_fbgemm-c81f6644",
            6_624_904,
            69.826,
            transformed(STANDARD),
        ),
    ),
)
