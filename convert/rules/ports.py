"""Ports to PyTorch that people publish weights of, beside the libraries.

MobileNet V2 of tonylins/pytorch-mobilenet-v2 and d-li14/mobilenetv2.pytorch: torchvision's network,
whose blocks are flat lists. In the second the last convolution stands outside of `features`.
"""

from functools import partial

from convert.rules.torchvision import mobilenet_v2 as torchvisions
from convert.rules.units import Names, listed, sequential
from flaxmobile.models.mobilenet_v2 import MobileNetV2

_RELU6 = 3
"""Places of a convolution, its normalization and its activation in a list."""


def _modules(model: MobileNetV2, head: str = "", classifier: str = "classifier") -> Names:
    stem, *blocks = model.blocks()
    yield from sequential(stem.name, "features.0")
    for index, block in enumerate(blocks, start=1):
        layers = ("expand", "depthwise", "project")[block.row.expansion == 1 :]
        for number, layer in enumerate(layers):
            theirs = f"features.{index}.conv"
            yield from listed(f"{block.name}/{layer}", theirs, _RELU6 * number)
    yield from sequential("head", head or f"features.{len(blocks) + 1}")
    yield "classifier", classifier


RULES = {
    "mobilenet_v2": torchvisions.RULE._replace(
        modules=_modules,
        other_names=(
            partial(_modules, classifier="classifier.1"),
            partial(_modules, head="conv"),
        ),
        published=(),
    )
}
