"""torchvision: the names of its state dicts, and what it says about its published weights."""

from collections.abc import Iterator, Mapping
from functools import partial
from types import ModuleType

from convert.layouts import TORCH
from convert.rule import Facts, Rule
from flaxmobile.layers import round_channels
from flaxmobile.models import mobilenet_v2
from flaxmobile.preprocessing import Preprocessing

_IMAGENET_CLASSES = 1000
_LICENCE = "BSD-3-Clause (torchvision); the training data may add terms"


def _mobilenet_v2_modules() -> Iterator[tuple[str, str]]:
    """Our path and torchvision's name of each module with parameters, in network order."""
    yield from _conv_norm("stem", "features.0")
    index = 0
    for number, stage in enumerate(mobilenet_v2.STAGES, start=1):
        for block in range(1, stage.blocks + 1):
            index += 1
            ours, theirs = f"stage{number}_block{block}", f"features.{index}.conv"
            layers = ("depthwise",) if stage.expansion == 1 else ("expand", "depthwise")
            for position, layer in enumerate(layers):
                yield from _conv_norm(f"{ours}/{layer}", f"{theirs}.{position}")
            yield f"{ours}/project/conv", f"{theirs}.{len(layers)}"
            yield f"{ours}/project/norm", f"{theirs}.{len(layers) + 1}"
    yield from _conv_norm("head", f"features.{index + 1}")
    yield "classifier", "classifier.1"


def _conv_norm(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    """Its `Conv2dNormActivation`."""
    yield f"{ours}/conv", f"{theirs}.0"
    yield f"{ours}/norm", f"{theirs}.1"


def _mobilenet_v2_widths(alpha: float) -> Mapping[str, int]:
    channels = {
        f"stage{number}_block1/project/conv": stage.channels * alpha
        for number, stage in enumerate(mobilenet_v2.STAGES, start=1)
    }
    channels["stem/conv"] = mobilenet_v2.STEM_CHANNELS * alpha
    channels["head/conv"] = mobilenet_v2.HEAD_CHANNELS * max(1.0, alpha)
    return {module: round_channels(width) for module, width in channels.items()}


def facts(model: str, sha256: str, num_classes: int) -> Facts:
    """Recognise a published file by its SHA-256, whose start torchvision puts into its address.

    Any other file gets torchvision's standard preset for evaluation, and ImageNet's class names
    where it has as many classes. Without torchvision installed, every file is any other file and
    has no class names.
    """
    standard = Preprocessing(image_size=224, resize_size=256)
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


MOBILENET_V2 = Rule(
    layout=TORCH,
    modules=dict(_mobilenet_v2_modules()),
    options={
        "padding": "symmetric",
        "norm_epsilon": 1e-5,
        "output_stride": 32,
        "shortcut": "bottleneck",
        "linear": True,
        "folded": False,
    },
    widths=_mobilenet_v2_widths,
    facts=partial(facts, "mobilenet_v2"),
)
