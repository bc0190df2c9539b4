"""Flax modules that several papers share."""

from flaxmobile.layers.activations import Activation, hard_sigmoid, hard_swish, relu, relu6
from flaxmobile.layers.attention import SqueezeExcite
from flaxmobile.layers.conv import Conv, ConvNorm
from flaxmobile.layers.dropout import Dropout
from flaxmobile.layers.inputs import to_symmetric_range
from flaxmobile.layers.network import AUX_LOGITS, Network
from flaxmobile.layers.norm import BatchNorm
from flaxmobile.layers.pooling import adaptive_avg_pool, avg_pool, max_pool
from flaxmobile.layers.rounding import round_channels, thin_channels
from flaxmobile.layers.shuffle import channel_shuffle
from flaxmobile.layers.strides import Step, plan_strides

__all__ = [
    "AUX_LOGITS",
    "Activation",
    "BatchNorm",
    "Conv",
    "ConvNorm",
    "Dropout",
    "Network",
    "SqueezeExcite",
    "Step",
    "adaptive_avg_pool",
    "avg_pool",
    "channel_shuffle",
    "hard_sigmoid",
    "hard_swish",
    "max_pool",
    "plan_strides",
    "relu",
    "relu6",
    "round_channels",
    "thin_channels",
    "to_symmetric_range",
]
