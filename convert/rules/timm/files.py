"""Files of weights that timm publishes: its `default_cfg`s as plain data.

timm publishes many only on its hub, whose addresses hold no SHA-256: those are not recognised.
"""

import math
from typing import Any

from convert.rule import Published
from flaxmobile.imagenet import IMAGENET_MEAN, IMAGENET_STD
from flaxmobile.preprocessing import Preprocessing

Triple = tuple[float, float, float]

HALF: Triple = (0.5, 0.5, 0.5)
"""Mean and standard deviation of the networks that see pixels in -1..1."""

_RELEASES = "https://github.com/rwightman/pytorch-image-models/releases/download"
_LICENCE = "Apache-2.0 (timm); the training data may add terms"


def preset(
    image_size: int = 224,
    crop: float = 0.875,
    mean: Triple = IMAGENET_MEAN,
    std: Triple = IMAGENET_STD,
    interpolation: str = "bilinear",
) -> Preprocessing:
    """Turn a `default_cfg` into a `Preprocessing`: timm resizes the shorter side to size / crop."""
    return Preprocessing(image_size, math.floor(image_size / crop), mean, std, interpolation)


def published(
    weights: str, file: str, preset: Preprocessing, release: str = "v0.1-weights"
) -> Published:
    """Describe a published file.

    Args:
      weights: timm's name of network and weights, such as "tf_mobilenetv3_small_075.in1k".
      file: its name without ".pth", which ends with the start of its SHA-256.
      preset: for evaluation.
      release: of timm, on GitHub.
    """
    url = f"{_RELEASES}/{release}/{file}.pth"
    source = {"weights": weights, "url": url, "licence": _LICENCE}
    return Published(file.rpartition("-")[2], preset, source)


def from_config(name: str, url: str, config: Any) -> Published:
    """Describe weights of that name and address by timm's `PretrainedCfg` of them."""
    preprocessing = preset(
        config.input_size[-1], config.crop_pct, config.mean, config.std, config.interpolation
    )
    source = {"weights": name, "url": url, "licence": config.license or _LICENCE}
    return Published("", preprocessing, source)
