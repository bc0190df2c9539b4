"""Files of weights that timm publishes: its `default_cfg`s as plain data.

timm publishes many only on the Hub, whose addresses hold no SHA-256: a copy of such a file is not
recognised. Their top-1 is not in timm's package.
"""

import math

from convert.rule import Published
from flaxmobile.imagenet import IMAGENET_MEAN, IMAGENET_STD
from flaxmobile.preprocessing import Preprocessing

Triple = tuple[float, float, float]

HALF: Triple = (0.5, 0.5, 0.5)
"""Mean and standard deviation of the networks that see pixels in -1..1."""

_RELEASES = "https://github.com/rwightman/pytorch-image-models/releases/download"


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
    name: str,
    params: int,
    preset: Preprocessing,
    file: str = "",
    release: str = "v0.1-weights",
    on_hub: bool = True,
) -> Published:
    """Describe published weights.

    Args:
      name: timm's name of network and weights, such as "tf_mobilenetv3_small_075.in1k".
      params: number of the network's parameters.
      preset: for evaluation.
      file: on GitHub, without ".pth"; its name ends with the start of its SHA-256.
      release: of timm, on GitHub.
      on_hub: timm's repository on the Hugging Face Hub has them too, or alone.
    """
    return Published(
        name=f"timm:{name}",
        preprocessing=preset,
        licence="Apache-2.0",
        params=params,
        url=file and f"{_RELEASES}/{release}/{file}.pth",
        repository=f"timm/{name}" if on_hub else "",
        sha256=file.rpartition("-")[2],
    )
