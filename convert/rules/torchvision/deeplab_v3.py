"""torchvision's DeepLabV3 on MobileNet V3."""

from convert.rules.torchvision.files import SEGMENTATION, published
from convert.rules.torchvision.segmenters import segmenter_rule
from convert.rules.units import Names, listed, sequential
from flaxmobile.segmentation import DeepLabV3, Segmenter

_RATES = (12, 24, 36)


def _head(model: Segmenter) -> Names:
    pyramid = "classifier.0.convs"
    yield from sequential("aspp_point", f"{pyramid}.0")
    for place, rate in enumerate(_RATES, start=1):
        yield from sequential(f"aspp_rate{rate}", f"{pyramid}.{place}")
    yield from listed("aspp_pool", f"{pyramid}.{len(_RATES) + 1}", 1)
    yield from sequential("aspp_project", "classifier.0.project")
    yield from listed("refine", "classifier", 1)
    yield "classifier", "classifier.4"
    if isinstance(model, DeepLabV3) and model.auxiliary:
        yield from listed("aux_conv", "aux_classifier", 0)
        yield "aux_classifier", "aux_classifier.4"


RULE = segmenter_rule(
    DeepLabV3,
    _head,
    published(
        "deeplabv3_mobilenet_v3_large.COCO_WITH_VOC_LABELS_V1",
        "deeplabv3_mobilenet_v3_large-fc3c493d",
        11_029_328,
        None,
        SEGMENTATION,
    ),
    variants=({"auxiliary": True}, {"auxiliary": False}),
)
