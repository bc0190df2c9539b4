"""timm's Inception V3, whose names and numbers are torchvision's.

Its files from TF-slim (`tf_in1k`, `tf_adv_in1k`) and GluonCV have no auxiliary classifier. They
differ from torchvision's, and among each other, in how they prepare images.
"""

from convert.rules.timm.files import HALF, preset, published
from convert.rules.torchvision import inception_v3 as torchvisions

_HALVES = preset(299, mean=HALF, std=HALF, interpolation="bicubic")

RULE = torchvisions.RULE._replace(
    variants=({"aux_logits": False}, {"aux_logits": True}),
    published=(
        published("inception_v3.tv_in1k", 23_834_568, _HALVES),
        published("inception_v3.tf_in1k", 23_834_568, _HALVES),
        published("inception_v3.tf_adv_in1k", 23_834_568, _HALVES),
        published("inception_v3.gluon_in1k", 23_834_568, preset(299, interpolation="bicubic")),
    ),
    asked={},
    preprocessing=_HALVES,
)
