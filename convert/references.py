"""The origins' own networks, to compare ours with."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from flaxmobile.errors import InputError

Options = Mapping[str, Any]

_MODULES = {"torchvision": "torchvision.models", "timm": "timm", "timm-tf": "timm"}


def build_reference(origin: str, model: str, options: Options) -> Any:
    """Build the network of an origin's library that corresponds to ours.

    Args:
      origin: "torchvision", "timm" or "timm-tf".
      model: registered name of our network.
      options: all of our network's, see `flaxmobile.registry.options_of`.

    Returns:
      A `torch.nn.Module` without dropout, with random weights.

    Raises:
      InputError: the library is not installed, or has no such network.
    """
    build = _BUILDERS.get((origin, model))
    if build is None:
        raise InputError(f"{origin} has no {model}")
    try:
        library = importlib.import_module(_MODULES[origin])
    except ImportError:
        raise InputError(f"{origin} is not installed: pip install 'flaxmobile[torch]'") from None
    return build(library, options)


def _mobilenet_v2(models: Any, options: Options) -> Any:
    return models.mobilenet_v2(
        width_mult=options["alpha"], num_classes=options["num_classes"], dropout=0.0
    )


def _mobilenet_v3(size: str) -> Callable[[Any, Options], Any]:
    def build(models: Any, options: Options) -> Any:
        arch = f"mobilenet_v3_{size}"
        setting, last = models.mobilenetv3._mobilenet_v3_conf(
            arch, width_mult=options["alpha"], reduced_tail=options["reduced_tail"]
        )
        return models.MobileNetV3(setting, last, options["num_classes"], dropout=0.0)

    return build


def _mnasnet(models: Any, options: Options) -> Any:
    return models.MNASNet(options["alpha"], options["num_classes"], dropout=0.0)


def _shufflenet_v2(models: Any, options: Options) -> Any:
    name = f"shufflenet_v2_x{options['alpha']:.1f}".replace(".", "_")
    return getattr(models, name)(num_classes=options["num_classes"])


def _inception_v1(models: Any, options: Options) -> Any:
    return models.GoogLeNet(
        options["num_classes"],
        options["aux_logits"],
        options["transform_input"],
        init_weights=False,
        dropout=0.0,
        dropout_aux=0.0,
    )


def _inception_v3(models: Any, options: Options) -> Any:
    return models.Inception3(
        options["num_classes"],
        options["aux_logits"],
        options["transform_input"],
        init_weights=False,
        dropout=0.0,
    )


def _timm(name: str) -> Callable[[Any, Options], Any]:
    def build(timm: Any, options: Options) -> Any:
        width = {"minimal": "_minimal" if options.get("minimalistic") else ""}
        alpha = round(100 * options["alpha"])
        return timm.create_model(
            name.format(alpha=f"{alpha:03d}", **width), num_classes=options["num_classes"]
        )

    return build


_BUILDERS: dict[tuple[str, str], Callable[[Any, Options], Any]] = {
    ("torchvision", "mobilenet_v2"): _mobilenet_v2,
    ("torchvision", "mobilenet_v3_large"): _mobilenet_v3("large"),
    ("torchvision", "mobilenet_v3_small"): _mobilenet_v3("small"),
    ("torchvision", "mnasnet"): _mnasnet,
    ("torchvision", "shufflenet_v2"): _shufflenet_v2,
    ("torchvision", "inception_v1"): _inception_v1,
    ("torchvision", "inception_v3"): _inception_v3,
    ("timm", "mobilenet_v1"): _timm("mobilenetv1_{alpha}"),
    ("timm", "mobilenet_v3_large"): _timm("mobilenetv3_large_{alpha}"),
    ("timm", "mobilenet_v3_small"): _timm("mobilenetv3_small_{alpha}"),
    ("timm-tf", "mobilenet_v3_large"): _timm("tf_mobilenetv3_large{minimal}_{alpha}"),
    ("timm-tf", "mobilenet_v3_small"): _timm("tf_mobilenetv3_small{minimal}_{alpha}"),
    ("timm", "inception_v4"): _timm("inception_v4"),
    ("timm", "inception_resnet_v2"): _timm("inception_resnet_v2"),
    ("timm", "xception"): _timm("legacy_xception"),
}
