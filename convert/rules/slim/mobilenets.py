"""TF-slim's MobileNet V1, V2 and V3.

Sources of the names: `_build_tf_to_pytorch_map` of transformers' MobileNets, which reads these
checkpoints, and the scopes of `slim/nets` in tensorflow/models.
"""

from convert.layouts import SLIM
from convert.rule import Rule
from convert.rules.slim.names import layer
from convert.rules.timm import mobilenet_v3 as timms_v3
from convert.rules.transformers import RULES as TRANSFORMERS
from convert.rules.units import Names
from flaxmobile.models.mobilenet_v1 import MobileNetV1
from flaxmobile.models.mobilenet_v2 import MobileNetV2
from flaxmobile.models.mobilenet_v3 import MobileNetV3

_LOGITS = "Logits/Conv2d_1c_1x1"


def _v1_modules(model: MobileNetV1) -> Names:
    stem, *blocks = model.blocks()
    yield from layer(stem.name, "MobilenetV1/Conv2d_0")
    for number, block in enumerate(blocks, start=1):
        for part in ("depthwise", "pointwise"):
            yield from layer(f"{block.name}/{part}", f"MobilenetV1/Conv2d_{number}_{part}")
    yield "classifier", f"MobilenetV1/{_LOGITS}"


def _scope(number: int) -> str:
    return f"expanded_conv_{number}" if number else "expanded_conv"


def _v2_modules(model: MobileNetV2) -> Names:
    stem, *blocks = model.blocks()
    yield from layer(stem.name, "MobilenetV2/Conv")
    for number, block in enumerate(blocks):
        for part in ("expand", "depthwise", "project")[block.row.expansion == 1 :]:
            yield from layer(f"{block.name}/{part}", f"MobilenetV2/{_scope(number)}/{part}")
    yield from layer("head", "MobilenetV2/Conv_1")
    yield "classifier", f"MobilenetV2/{_LOGITS}"


def _v3_modules(model: MobileNetV3) -> Names:
    yield from layer("stem", "MobilenetV3/Conv")
    for number, block in enumerate(model.scaled.blocks):
        theirs = f"MobilenetV3/{_scope(number)}"
        for part in ("expand", "depthwise", "project")[not block.row.expands :]:
            if part == "project" and model.squeezes(block.row):
                yield f"{block.name}/squeeze/reduce", f"{theirs}/squeeze_excite/Conv"
                yield f"{block.name}/squeeze/expand", f"{theirs}/squeeze_excite/Conv_1"
            yield from layer(f"{block.name}/{part}", f"{theirs}/{part}")
    yield from layer("last", "MobilenetV3/Conv_1")
    yield "hidden", "MobilenetV3/Conv_2"
    yield "classifier", f"MobilenetV3/{_LOGITS}"


def _v3_rule(theirs: Rule) -> Rule:
    return theirs._replace(
        layout=SLIM,
        modules=_v3_modules,
        published=(),
        as_convolutions=("hidden", "classifier"),
    )


RULES = {
    "mobilenet_v1": TRANSFORMERS["mobilenet_v1"]._replace(
        layout=SLIM, modules=_v1_modules, as_convolutions=("classifier",)
    ),
    "mobilenet_v2": TRANSFORMERS["mobilenet_v2"]._replace(
        layout=SLIM, modules=_v2_modules, as_convolutions=("classifier",)
    ),
    "mobilenet_v3_large": _v3_rule(timms_v3.TF_LARGE),
    "mobilenet_v3_small": _v3_rule(timms_v3.TF_SMALL),
}
