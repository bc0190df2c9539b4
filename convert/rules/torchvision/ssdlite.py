"""torchvision's SSDLite320 over MobileNet V3."""

from collections.abc import Mapping

from convert.class_names import coco_names
from convert.layouts import TORCH
from convert.rule import Rule
from convert.rules.torchvision import mobilenet_v3
from convert.rules.torchvision.files import published
from convert.rules.units import Names, sequential
from convert.rules.widths import mobilenet_v3_widths
from flaxmobile.detection.boxes import BOXES_PER_CELL
from flaxmobile.detection.objects import PREPROCESSING
from flaxmobile.detection.ssdlite import EXTRA_CHANNELS, SSDLite

_LAYERS = ("reduce", "depthwise", "project")
_PREDICTORS = {"logits": "head.classification_head", "offsets": "head.regression_head"}
_MAPS = 2 + len(EXTRA_CHANNELS)


def _modules(model: SSDLite) -> Names:
    for ours, theirs in mobilenet_v3.ssdlite_modules(model.backbone):
        if theirs.startswith("features."):  # and not the classifier, which a backbone lacks
            yield f"backbone/{ours}", f"backbone.{theirs}"
    for block in range(len(EXTRA_CHANNELS)):
        for place, layer in enumerate(_LAYERS):
            yield from sequential(
                f"extra/block{block + 1}/{layer}", f"backbone.extra.{block}.{place}"
            )
    for ours, theirs in _PREDICTORS.items():
        for place in range(_MAPS):
            own = f"{theirs}.module_list.{place}"
            yield from sequential(f"{ours}/map{place + 1}_depthwise", f"{own}.0")
            yield f"{ours}/map{place + 1}_project", f"{own}.1"


def _widths(model: SSDLite) -> Mapping[str, int]:
    widths = mobilenet_v3_widths(model.backbone)
    return {f"backbone/{name}": width for name, width in widths.items() if name != "hidden"}


RULE = Rule(
    network=SSDLite,
    layout=TORCH,
    modules=_modules,
    own_options={
        **mobilenet_v3.LARGE.options,
        "backbone": "mobilenet_v3_large",
        "norm_momentum": 0.97,
    },
    variants=({"reduced_tail": True, "alpha": 1.0}, {"reduced_tail": False, "alpha": 1.0}),
    widths=_widths,
    classifier=("logits/map1_project", BOXES_PER_CELL),
    preprocessing=PREPROCESSING,
    class_names=coco_names,
    published=(
        published(
            "ssdlite320_mobilenet_v3_large.COCO_V1",
            "ssdlite320_mobilenet_v3_large_coco-a79551df",
            3_440_060,
            None,
            PREPROCESSING,
        ),
    ),
)
