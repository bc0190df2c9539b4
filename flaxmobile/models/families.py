"""Networks by what their blocks are made of, for the heads that read maps from inside blocks."""

from flaxmobile.models.mnasnet import MnasNet
from flaxmobile.models.mobilenet_v2 import MobileNetV2
from flaxmobile.models.mobilenet_v3 import MobileNetV3

INVERTED_RESIDUALS = (MnasNet, MobileNetV2, MobileNetV3)
"""Their blocks have the taps "expand" (where they widen) and "depthwise"."""
