"""Keras: the names of the layers of `keras.applications`, one module per network."""

from convert.rules.keras import (
    inception_resnet_v2,
    inception_v3,
    mobilenet_v1,
    mobilenet_v2,
    mobilenet_v3,
    xception,
)

RULES = {
    "mobilenet_v1": mobilenet_v1.RULE,
    "mobilenet_v2": mobilenet_v2.RULE,
    "mobilenet_v3_large": mobilenet_v3.LARGE,
    "mobilenet_v3_small": mobilenet_v3.SMALL,
    "xception": xception.RULE,
    "inception_v3": inception_v3.RULE,
    "inception_resnet_v2": inception_resnet_v2.RULE,
}
