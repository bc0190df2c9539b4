"""What torchvision says about its published weights."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from convert.imagenet import class_names
from convert.rule import Facts
from flaxmobile.preprocessing import Preprocessing

MODELS: Mapping[str, Mapping[float, str]] = {
    "mobilenet_v2": {1.0: "mobilenet_v2"},
    "mobilenet_v3_large": {1.0: "mobilenet_v3_large"},
    "mobilenet_v3_small": {1.0: "mobilenet_v3_small"},
    "mnasnet": {1.0: "mnasnet1_0", 0.5: "mnasnet0_5", 0.75: "mnasnet0_75", 1.3: "mnasnet1_3"},
    "shufflenet_v2": {
        1.0: "shufflenet_v2_x1_0",
        0.5: "shufflenet_v2_x0_5",
        1.5: "shufflenet_v2_x1_5",
        2.0: "shufflenet_v2_x2_0",
    },
    "inception_v1": {1.0: "googlenet"},
    "inception_v3": {1.0: "inception_v3"},
}
"""Our name of a network -> published width -> torchvision's name."""

_LICENCE = "BSD-3-Clause (torchvision); the training data may add terms"
_STANDARD = Preprocessing(image_size=224, resize_size=256)


def facts(model: str, sha256: str, num_classes: int, standard: Preprocessing = _STANDARD) -> Facts:
    """Recognise a published file by its SHA-256, whose start torchvision puts into its address.

    Any other file gets the standard preset for evaluation. Without torchvision installed, every
    file is any other file.

    Args:
      model: our name of the network.
      sha256: of the file.
      num_classes: of the file.
      standard: the network's preset.
    """
    names = class_names(num_classes)
    for weights in _published(model):
        if sha256.startswith(weights.url.rpartition("-")[2].removesuffix(".pth")):
            preset = weights.transforms()
            preprocessing = Preprocessing(
                preset.crop_size[0],
                preset.resize_size[0],
                tuple(preset.mean),
                tuple(preset.std),
                preset.interpolation.value,
            )
            source = {"weights": weights.name, "url": weights.url, "licence": _LICENCE}
            return Facts(preprocessing, names, source)
    return Facts(standard, names, {})


def without_transform(found: Facts) -> Facts:
    """Put what torchvision's `transform_input` does into the preprocessing.

    Its published Inception networks take images normalized by ImageNet's statistics and map them to
    mean and standard deviation 0.5 first; those that its users train do not unless asked to, and
    the tensors do not say which of the two they come from.
    """
    if not found.source:
        return found
    half = (0.5, 0.5, 0.5)
    preprocessing = dataclasses.replace(found.preprocessing, mean=half, std=half)
    return found._replace(preprocessing=preprocessing)


def _published(model: str) -> Iterator[Any]:
    """The members of torchvision's weights enums for a network, in all its widths."""
    try:
        from torchvision import models
    except ImportError:
        return
    for name in MODELS[model].values():
        yield from models.get_model_weights(name)
