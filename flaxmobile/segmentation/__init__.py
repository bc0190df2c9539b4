"""Segmentation: heads that give a class to every pixel, one file per paper."""

from flaxmobile.segmentation.deeplab_v3 import DeepLabV3
from flaxmobile.segmentation.lraspp import LRASPP
from flaxmobile.segmentation.segmenter import Segmenter

__all__ = ["LRASPP", "DeepLabV3", "Segmenter"]
