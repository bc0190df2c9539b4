"""torchvision: the names of its state dicts, one module per network."""

from convert.rules.torchvision import (
    deeplab_v3,
    inception_v1,
    inception_v3,
    lraspp,
    mnasnet,
    mobilenet_v2,
    mobilenet_v3,
    shufflenet_v2,
    ssdlite,
)

RULES = {
    "mobilenet_v2": mobilenet_v2.RULE,
    "mobilenet_v3_large": mobilenet_v3.LARGE,
    "mobilenet_v3_small": mobilenet_v3.SMALL,
    "mnasnet": mnasnet.RULE,
    "shufflenet_v2": shufflenet_v2.RULE,
    "inception_v1": inception_v1.RULE,
    "inception_v3": inception_v3.RULE,
    "lraspp": lraspp.RULE,
    "deeplab_v3": deeplab_v3.RULE,
    "ssdlite": ssdlite.RULE,
}
