"""Flax modules that several papers share."""

from flaxmobile.layers.activations import relu6
from flaxmobile.layers.conv import Activation, Conv, ConvNorm
from flaxmobile.layers.dropout import Dropout
from flaxmobile.layers.network import Network
from flaxmobile.layers.norm import BatchNorm
from flaxmobile.layers.rounding import round_channels

__all__ = [
    "Activation",
    "BatchNorm",
    "Conv",
    "ConvNorm",
    "Dropout",
    "Network",
    "relu6",
    "round_channels",
]
