"""torchvision's SSDLite320 over MobileNet V3."""

from convert.rules.torchvision import mobilenet_v3
from convert.rules.units import Names, sequential
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
