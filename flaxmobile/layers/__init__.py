"""Flax modules that several papers share."""

from flaxmobile.layers.activations import (
    ACTIVATIONS,
    Activation,
    hard_sigmoid,
    hard_swish,
    relu,
    relu6,
)
from flaxmobile.layers.attention import SqueezeExcite
from flaxmobile.layers.backbone import Layer, MakeUnit
from flaxmobile.layers.conv import Conv, ConvNorm, depthwise_unit
from flaxmobile.layers.dropout import Dropout, DropPath
from flaxmobile.layers.headed import HeadedNetwork, Model
from flaxmobile.layers.in_parts import bottleneck_in_parts
from flaxmobile.layers.inputs import to_symmetric_range
from flaxmobile.layers.network import AUX_LOGITS, Network
from flaxmobile.layers.norm import BatchNorm
from flaxmobile.layers.pooling import adaptive_avg_pool, avg_pool, max_pool
from flaxmobile.layers.pyramid import FeaturePyramid
from flaxmobile.layers.quantization import Dense, activate, keep_steps, quantize
from flaxmobile.layers.rounding import round_channels, thin_channels
from flaxmobile.layers.rows import Max, Unit, unit_block
from flaxmobile.layers.scaled import DropPathNetwork, ScaledNetwork
from flaxmobile.layers.shuffle import channel_shuffle
from flaxmobile.layers.stages import Block, Place, stage_blocks
from flaxmobile.layers.taps import Maps

__all__ = [
    "ACTIVATIONS",
    "AUX_LOGITS",
    "Activation",
    "BatchNorm",
    "Block",
    "Conv",
    "ConvNorm",
    "Dense",
    "DropPath",
    "DropPathNetwork",
    "Dropout",
    "FeaturePyramid",
    "HeadedNetwork",
    "Layer",
    "MakeUnit",
    "Maps",
    "Max",
    "Model",
    "Network",
    "Place",
    "ScaledNetwork",
    "SqueezeExcite",
    "Unit",
    "activate",
    "adaptive_avg_pool",
    "avg_pool",
    "bottleneck_in_parts",
    "channel_shuffle",
    "depthwise_unit",
    "hard_sigmoid",
    "hard_swish",
    "keep_steps",
    "max_pool",
    "quantize",
    "relu",
    "relu6",
    "round_channels",
    "stage_blocks",
    "thin_channels",
    "to_symmetric_range",
    "unit_block",
]
