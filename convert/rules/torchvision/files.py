"""Files of weights that torchvision publishes: its weights enums as plain data.

Quantized ones are named as `torchvision.models.list_models` names their networks.

The presets include `transform_input`: torchvision's published Inception networks are given images
normalized by ImageNet's statistics and first map them to mean and standard deviation 0.5. Networks
that its users train do not, unless asked to, and no tensor shows which of the two a file is.
"""

import dataclasses

from convert.rule import Published
from flaxmobile.preprocessing import Preprocessing

STANDARD = Preprocessing(image_size=224, resize_size=256)
CLOSER = Preprocessing(image_size=224, resize_size=232)
SEGMENTATION = Preprocessing(image_size=520, resize_size=520)
INCEPTION = Preprocessing(image_size=299, resize_size=342)

ADDRESS = "https://download.pytorch.org/models/"


def transformed(preset: Preprocessing) -> Preprocessing:
    """Return the preset with `transform_input` included."""
    return dataclasses.replace(preset, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


ASKED = {
    "transform_input": "networks that began from torchvision's published weights have it (true), "
    "others do not unless they were asked to (false)"
}
"""See `convert.rule.Rule`, of the Inception networks."""


def published(
    name: str,
    file: str,
    params: int,
    top1: float | None,
    preset: Preprocessing = STANDARD,
    alpha: float = 1.0,
) -> Published:
    """Describe a published file.

    Args:
      name: torchvision's name of the network, and the weights' name in its enum.
      file: its name without ".pth", which ends with "-" and the start of its SHA-256, if torch
        verifies it.
      params: number of the network's parameters.
      top1: ImageNet accuracy in percent, of a classifier.
      preset: for evaluation.
      alpha: width of the network.
    """
    return Published(
        name=f"torchvision:{name}",
        preprocessing=preset,
        licence="BSD-3-Clause",
        params=params,
        url=f"{ADDRESS}{file}.pth",
        sha256=file.rpartition("-")[2] if "-" in file else "",
        alpha=alpha,
        top1=top1,
        top1_source="" if top1 is None else "torchvision's weights enum",
    )
