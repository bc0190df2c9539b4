"""timm's Inception V3, whose names and numbers are torchvision's.

Its files from TF-slim (`tf_in1k`, `tf_adv_in1k`) and GluonCV have no auxiliary classifier. They
differ from torchvision's, and among each other, in how they prepare images.
"""

from convert.rules.timm.files import HALF, preset
from convert.rules.torchvision import inception_v3 as torchvisions

RULE = torchvisions.RULE._replace(
    variants=({"aux_logits": False}, {"aux_logits": True}),
    published=(),
    asked={},
    preprocessing=preset(299, mean=HALF, std=HALF, interpolation="bicubic"),
)
