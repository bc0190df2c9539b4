"""What torchvision says about its published weights."""

import dataclasses
from types import ModuleType

from convert.rule import Facts
from flaxmobile.preprocessing import Preprocessing

_IMAGENET_CLASSES = 1000
_LICENCE = "BSD-3-Clause (torchvision); the training data may add terms"
_STANDARD = Preprocessing(image_size=224, resize_size=256)


def facts(model: str, sha256: str, num_classes: int, standard: Preprocessing = _STANDARD) -> Facts:
    """Recognise a published file by its SHA-256, whose start torchvision puts into its address.

    Any other file gets the standard preset for evaluation, and ImageNet's class names where it has
    as many classes. Without torchvision installed, every file is any other file and has no class
    names.

    Args:
      model: torchvision's name of the network.
      sha256: of the file.
      num_classes: of the file.
      standard: the network's preset.
    """
    models = _torchvision_models()
    if models is None or num_classes != _IMAGENET_CLASSES:
        return Facts(standard, None, {})
    for weights in models.get_model_weights(model):
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
            return Facts(preprocessing, tuple(weights.meta["categories"]), source)
    return Facts(standard, tuple(models._meta._IMAGENET_CATEGORIES), {})


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


def _torchvision_models() -> ModuleType | None:
    try:
        from torchvision import models
    except ImportError:
        return None
    return models
