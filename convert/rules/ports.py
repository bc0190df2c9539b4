"""Ports to PyTorch that people publish weights of, beside the libraries.

MobileNet V2 of tonylins/pytorch-mobilenet-v2 and d-li14/mobilenetv2.pytorch: torchvision's network,
whose blocks are flat lists. In the second the last convolution stands outside of `features`.

MobileNet V3 of d-li14/mobilenetv3.pytorch: flat lists too, dense layers in squeeze-excite, which
mostly stands before the activation. Its stem shrinks below alpha 0.75, which ours does not.
"""

from functools import partial

from convert.rule import Rule
from convert.rules.torchvision import mobilenet_v2 as torchvisions
from convert.rules.torchvision import mobilenet_v3 as torchvisions_v3
from convert.rules.units import Names, listed, sequential
from flaxmobile.models.mobilenet_v2 import MobileNetV2
from flaxmobile.models.mobilenet_v3 import MobileNetV3

_UNIT = 3
"""Places of a convolution, its normalization and its activation in a list."""


def _modules(model: MobileNetV2, head: str = "", classifier: str = "classifier") -> Names:
    stem, *blocks = model.blocks()
    yield from sequential(stem.name, "features.0")
    for index, block in enumerate(blocks, start=1):
        layers = ("expand", "depthwise", "project")[block.row.expansion == 1 :]
        for number, layer in enumerate(layers):
            theirs = f"features.{index}.conv"
            yield from listed(f"{block.name}/{layer}", theirs, _UNIT * number)
    yield from sequential("head", head or f"features.{len(blocks) + 1}")
    yield "classifier", classifier


def _v3_modules(model: MobileNetV3) -> Names:
    yield from sequential("stem", "features.0")
    for index, block in enumerate(model.scaled.blocks, start=1):
        theirs, place, row = f"features.{index}.conv", 0, block.row
        for layer in ("expand", "depthwise")[not row.expands :]:
            yield from listed(f"{block.name}/{layer}", theirs, place)
            place += _UNIT
        squeeze = place - row.expands  # before the activation, or after it
        if model.squeezes(row):
            yield f"{block.name}/squeeze/reduce", f"{theirs}.{squeeze}.fc.0"
            yield f"{block.name}/squeeze/expand", f"{theirs}.{squeeze}.fc.2"
        yield from listed(f"{block.name}/project", theirs, place + 1)
    yield from sequential("last", "conv")
    yield "hidden", "classifier.0"
    yield "classifier", "classifier.3"


def _v3_rule(theirs: Rule) -> Rule:
    return theirs._replace(
        modules=_v3_modules,
        other_names=(),
        own_options={
            "norm_epsilon": 1e-5,
            "norm_momentum": 0.9,
            "last_channel": "paper",
            "squeeze_first": True,
        },
        variants=({},),
        published=(),
        ranges=None,
    )


RULES = {
    "mobilenet_v3_large": _v3_rule(torchvisions_v3.LARGE),
    "mobilenet_v3_small": _v3_rule(torchvisions_v3.SMALL),
    "mobilenet_v2": torchvisions.RULE._replace(
        modules=_modules,
        other_names=(
            partial(_modules, classifier="classifier.1"),
            partial(_modules, head="conv"),
        ),
        published=(),
        ranges=None,
    ),
}
