"""Files of weights that torchvision publishes: its weights enums as plain data.

The presets include `transform_input`: torchvision's published Inception networks are given images
normalized by ImageNet's statistics and first map them to mean and standard deviation 0.5. Networks
that its users train do not, unless asked to, and no tensor shows which of the two a file is.
"""

import dataclasses
from typing import Any

from convert.rule import Published
from flaxmobile.preprocessing import Preprocessing

STANDARD = Preprocessing(image_size=224, resize_size=256)
CLOSER = Preprocessing(image_size=224, resize_size=232)
INCEPTION = Preprocessing(image_size=299, resize_size=342)

_ADDRESS = "https://download.pytorch.org/models/"
_LICENCE = "BSD-3-Clause (torchvision); the training data may add terms"
_TRANSFORMED = ("inception_v1", "inception_v3")


def transformed(preset: Preprocessing) -> Preprocessing:
    """Return the preset with `transform_input` included."""
    return dataclasses.replace(preset, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


ASKED = {
    "transform_input": "networks that began from torchvision's published weights have it (true), "
    "others do not unless they were asked to (false)"
}
"""See `convert.rule.Rule`, of the Inception networks."""


def published(
    file: str,
    preset: Preprocessing = STANDARD,
    weights: str = "IMAGENET1K_V1",
    alpha: float = 1.0,
) -> Published:
    """Describe a published file.

    Args:
      file: its name without ".pth", which ends with the start of its SHA-256.
      preset: for evaluation.
      weights: its name in the network's enum.
      alpha: width of the network.
    """
    source = {"weights": weights, "url": f"{_ADDRESS}{file}.pth", "licence": _LICENCE}
    return Published(file.rpartition("-")[2], preset, source, alpha)


def from_enum(model: str, weights: Any) -> Published:
    """Describe a member of the weights enum of our network `model`."""
    enum = weights.transforms()
    preset = Preprocessing(
        enum.crop_size[0],
        enum.resize_size[0],
        tuple(enum.mean),
        tuple(enum.std),
        enum.interpolation.value,
    )
    file = weights.url.rpartition("/")[2].removesuffix(".pth")
    found = published(file, transformed(preset) if model in _TRANSFORMED else preset, weights.name)
    return found._replace(source={**found.source, "url": weights.url})
