"""torchvision's GoogLeNet."""

from collections.abc import Iterator

from convert.layouts import TORCH
from convert.rule import Options, Rule
from convert.rules.torchvision.blocks import basic_conv
from convert.rules.torchvision.files import STANDARD, published, transformed
from flaxmobile.models import inception_v1

_LAYERS = {
    "branch1x1": "branch1",
    "branch3x3_reduce": "branch2.0",
    "branch3x3": "branch2.1",
    "branch5x5_reduce": "branch3.0",
    "branch5x5": "branch3.1",
    "pool_project": "branch4.1",
}


def _modules(options: Options) -> Iterator[tuple[str, str]]:
    for ours, theirs in (("stem", "conv1"), ("conv2_reduce", "conv2"), ("conv2", "conv3")):
        yield from basic_conv(ours, theirs)
    for module in (block.name for block in inception_v1.TABLE if "inception" in block.name):
        for ours, theirs in _LAYERS.items():
            yield from basic_conv(f"{module}/{ours}", f"{module}.{theirs}")
    if options["aux_logits"]:
        for ours, theirs in (("auxiliary1", "aux1"), ("auxiliary2", "aux2")):
            yield from basic_conv(f"{ours}/project", f"{theirs}.conv")
            yield f"{ours}/hidden", f"{theirs}.fc1"
            yield f"{ours}/classifier", f"{theirs}.fc2"
    yield "classifier", "fc"


INCEPTION_V1 = Rule(
    layout=TORCH,
    modules=_modules,
    own_options={
        "alpha": 1.0,
        "flavour": "torchvision",
        "transform_input": False,
        "padding": "symmetric",
        "norm_epsilon": 1e-3,
    },
    variants=({"aux_logits": True}, {"aux_logits": False}),
    preprocessing=STANDARD,
    published=(published("googlenet-1378be20", transformed(STANDARD)),),
)
