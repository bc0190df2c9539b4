"""What timm says about its published weights: its `default_cfg`s as plain data."""

import math
from typing import Any, NamedTuple

from convert.imagenet import class_names
from convert.rule import Facts
from flaxmobile.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

Triple = tuple[float, float, float]

HALF: Triple = (0.5, 0.5, 0.5)
"""Mean and standard deviation of the networks that see pixels in -1..1."""

_RELEASES = "https://github.com/rwightman/pytorch-image-models/releases/download"
_LICENCE = "Apache-2.0 (timm); the training data may add terms"


class Published(NamedTuple):
    """A file of weights that timm publishes.

    Attributes:
      weights: timm's name of network and weights, such as "tf_mobilenetv3_small_075.in1k".
      file: its name without ".pth", which ends with the start of its SHA-256.
      preprocessing: its preset for evaluation.
      release: of timm, on GitHub.
    """

    weights: str
    file: str
    preprocessing: Preprocessing
    release: str = "v0.1-weights"


def preset(
    image_size: int = 224,
    crop: float = 0.875,
    mean: Triple = IMAGENET_MEAN,
    std: Triple = IMAGENET_STD,
    interpolation: str = "bilinear",
) -> Preprocessing:
    """Turn a `default_cfg` into our numbers: timm resizes the shorter side to size / crop."""
    return Preprocessing(image_size, math.floor(image_size / crop), mean, std, interpolation)


def facts(
    published: tuple[Published, ...], standard: Preprocessing, sha256: str, num_classes: int
) -> Facts:
    """Recognise a published file by its SHA-256, whose start timm puts into its name.

    Any other file gets the network's standard preset.

    Args:
      published: the files of the network.
      standard: the network's preset.
      sha256: of the file.
      num_classes: of the file.
    """
    names = class_names(num_classes)
    for known in published:
        if sha256.startswith(known.file.rpartition("-")[2]):
            url = f"{_RELEASES}/{known.release}/{known.file}.pth"
            source = {"weights": known.weights, "url": url, "licence": _LICENCE}
            return Facts(known.preprocessing, names, source)
    return Facts(standard, names, {})


def facts_of(name: str, url: str, config: Any, num_classes: int) -> Facts:
    """Turn one of timm's `PretrainedCfg`s, of weights of that name from there, into facts."""
    preprocessing = preset(
        config.input_size[-1], config.crop_pct, config.mean, config.std, config.interpolation
    )
    source = {"weights": name, "url": url, "licence": config.license or _LICENCE}
    return Facts(preprocessing, class_names(num_classes), source)
