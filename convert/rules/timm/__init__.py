"""timm: the names of its state dicts, one module per network."""

from convert.rules.timm import (
    inception_resnet_v2,
    inception_v3,
    inception_v4,
    mnasnet,
    mobilenet_v1,
    mobilenet_v2,
    mobilenet_v3,
    mobilenet_v4,
    xception,
)

RULES = {
    "mobilenet_v1": mobilenet_v1.RULE,
    "mobilenet_v2": mobilenet_v2.RULE,
    "mobilenet_v3_large": mobilenet_v3.LARGE,
    "mobilenet_v3_small": mobilenet_v3.SMALL,
    "mobilenet_v4": mobilenet_v4.RULE,
    "mnasnet": mnasnet.RULE,
    "inception_v3": inception_v3.RULE,
    "inception_v4": inception_v4.RULE,
    "inception_resnet_v2": inception_resnet_v2.RULE,
    "xception": xception.RULE,
}
TF_RULES = {
    "mobilenet_v3_large": mobilenet_v3.TF_LARGE,
    "mobilenet_v3_small": mobilenet_v3.TF_SMALL,
}
"""Rules of timm's copies of TF-slim's networks."""
