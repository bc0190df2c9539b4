"""torchvision's LR-ASPP."""

from convert.rules.torchvision.files import SEGMENTATION, published
from convert.rules.torchvision.segmenters import segmenter_rule
from convert.rules.units import Names, sequential
from flaxmobile.segmentation import LRASPP, Segmenter


def _head(model: Segmenter) -> Names:
    yield from sequential("project", "classifier.cbr")
    yield "gate", "classifier.scale.1"
    yield "low_classifier", "classifier.low_classifier"
    yield "high_classifier", "classifier.high_classifier"


RULE = segmenter_rule(
    LRASPP,
    _head,
    published(
        "lraspp_mobilenet_v3_large.COCO_WITH_VOC_LABELS_V1",
        "lraspp_mobilenet_v3_large-d234d4ea",
        3_221_538,
        None,
        SEGMENTATION,
    ),
)
