"""What torchvision says about its published weights."""

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
        if weights.url.endswith(f"-{sha256[:8]}.pth"):
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


def _torchvision_models() -> ModuleType | None:
    try:
        from torchvision import models
    except ImportError:
        return None
    return models
