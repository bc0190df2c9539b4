"""What torchvision says about its published weights: its weights enums as plain data."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from convert.imagenet import class_names
from convert.rule import Facts
from flaxmobile.preprocessing import Preprocessing

ADDRESS = "https://download.pytorch.org/models/"

_LICENCE = "BSD-3-Clause (torchvision); the training data may add terms"
_HALF = (0.5, 0.5, 0.5)
_STANDARD = Preprocessing(image_size=224, resize_size=256)
_CLOSER = Preprocessing(image_size=224, resize_size=232)
_INCEPTION = Preprocessing(image_size=299, resize_size=342)


class Published(NamedTuple):
    """A file of weights that torchvision publishes.

    Attributes:
      alpha: width of the network.
      file: its name without ".pth", which ends with the start of its SHA-256.
      preprocessing: its preset for evaluation.
      weights: its name in the network's enum.
    """

    alpha: float
    file: str
    preprocessing: Preprocessing = _STANDARD
    weights: str = "IMAGENET1K_V1"


FILES: Mapping[str, tuple[Published, ...]] = {
    "mobilenet_v2": (
        Published(1.0, "mobilenet_v2-b0353104"),
        Published(1.0, "mobilenet_v2-7ebf99e0", _CLOSER, "IMAGENET1K_V2"),
    ),
    "mobilenet_v3_large": (
        Published(1.0, "mobilenet_v3_large-8738ca79"),
        Published(1.0, "mobilenet_v3_large-5c1a4163", _CLOSER, "IMAGENET1K_V2"),
    ),
    "mobilenet_v3_small": (Published(1.0, "mobilenet_v3_small-047dcff4"),),
    "mnasnet": (
        Published(0.5, "mnasnet0.5_top1_67.823-3ffadce67e"),
        Published(0.75, "mnasnet0_75-7090bc5f", _CLOSER),
        Published(1.0, "mnasnet1.0_top1_73.512-f206786ef8"),
        Published(1.3, "mnasnet1_3-a4c69d6f", _CLOSER),
    ),
    "shufflenet_v2": (
        Published(0.5, "shufflenetv2_x0.5-f707e7126e"),
        Published(1.0, "shufflenetv2_x1-5666bf0f80"),
        Published(1.5, "shufflenetv2_x1_5-3c479a10", _CLOSER),
        Published(2.0, "shufflenetv2_x2_0-8be3c8ee", _CLOSER),
    ),
    "inception_v1": (Published(1.0, "googlenet-1378be20"),),
    "inception_v3": (Published(1.0, "inception_v3_google-0cc3c7bd", _INCEPTION),),
}
"""Our name of a network -> its published files."""

_TRANSFORMED = ("inception_v1", "inception_v3")


def facts(model: str, sha256: str, num_classes: int) -> Facts:
    """Recognise a published file by its SHA-256, whose start torchvision puts into its name.

    Any other file gets the network's standard preset for evaluation. What torchvision's
    `transform_input` does is in the preprocessing: its published Inception networks take images
    normalized by ImageNet's statistics and map them to mean and standard deviation 0.5 first; those
    that its users train do not unless asked to, and the tensors do not say which of the two they
    come from.

    Args:
      model: our name of the network.
      sha256: of the file.
      num_classes: of the file.
    """
    for known in FILES[model]:
        if sha256.startswith(known.file.rpartition("-")[2]):
            url = f"{ADDRESS}{known.file}.pth"
            return _published(model, known.preprocessing, known.weights, url, num_classes)
    standard = _INCEPTION if model == "inception_v3" else _STANDARD
    return Facts(standard, class_names(num_classes), {})


def facts_of(model: str, weights: Any, num_classes: int) -> Facts:
    """The same of a member of one of torchvision's weights enums."""
    preset = weights.transforms()
    preprocessing = Preprocessing(
        preset.crop_size[0],
        preset.resize_size[0],
        tuple(preset.mean),
        tuple(preset.std),
        preset.interpolation.value,
    )
    return _published(model, preprocessing, weights.name, weights.url, num_classes)


def _published(
    model: str, preset: Preprocessing, weights: str, url: str, num_classes: int
) -> Facts:
    if model in _TRANSFORMED:
        preset = dataclasses.replace(preset, mean=_HALF, std=_HALF)
    source = {"weights": weights, "url": url, "licence": _LICENCE}
    return Facts(preset, class_names(num_classes), source)
