"""The origins' networks, built by their libraries, for comparisons."""

import importlib
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from convert.rules.timm.names import FAMILIES, architecture_of
from flaxmobile.errors import InputError, pip_install
from flaxmobile.registry import get_spec
from flaxmobile.tasks import HEADS, SEGMENTERS

Options = Mapping[str, Any]
Size = int | tuple[int, int]
"""Side of a square, or height and width, in pixels."""

_MODULES = {
    "torchvision": "torchvision.models",
    "timm": "timm",
    "timm-tf": "timm",
    "keras": "keras.applications",
}
_EXTRAS = {"keras": "keras"}
"""Extra that installs an origin's library, where it is not `torch`."""


def build_reference(
    origin: str, model: str, options: Options, image_size: Size | None = None
) -> Any:
    """Build the network of an origin's library that corresponds to ours.

    Args:
      origin: "torchvision", "timm", "timm-tf" or "keras"; the others have no library.
      model: registered name of our network.
      options: all of our network's, see `flaxmobile.registry.options_of`.
      image_size: of the images, by default the network's own; for Keras, whose networks have one.

    Returns:
      With random weights: a `torch.nn.Module` without dropout, or a `keras.Model` that maps images
      [n, h, w, 3] of that size, in -1..1, to logits. Keras runs on JAX unless the
      environment's KERAS_BACKEND says otherwise.

    Raises:
      InputError: the origin has no library, it is not installed, or has no such network.
    """
    if origin not in _MODULES:
        raise InputError(f"no library has the networks of {origin}, so they cannot be run here")
    build = _BUILDERS.get((origin, model))
    if build is None:
        raise InputError(f"{origin} has no {model}")
    if origin == "keras":
        os.environ.setdefault("KERAS_BACKEND", "jax")
        build = partial(build, image_size=image_size or get_spec(model).image_size)
    try:
        library = importlib.import_module(_MODULES[origin])
    except ImportError:
        extra = _EXTRAS.get(origin, "torch")
        raise InputError(f"{origin} is not installed: {pip_install(extra)}") from None
    return build(library, options)


def as_ours(name: str, network: Any) -> Any:
    """Let a segmenter or detector of torchvision return what ours returns.

    Args:
      name: registered name of our network; a classifier stays as it is.
      network: a `torch.nn.Module`.

    Returns:
      A `torch.nn.Module` of images [n, 3, h, w]. A segmenter gives logits [n, h, w, classes]. A
      detector gives logits and offsets [n, boxes, classes + 4], without resizing the images and
      without suppression.
    """
    if name not in HEADS:
        return network
    import torch

    def segment(images: Any) -> Any:
        return network(images)["out"].permute(0, 2, 3, 1)

    def detect(images: Any) -> Any:
        answer = network.head(list(network.backbone(images).values()))
        return torch.cat([answer["cls_logits"], answer["bbox_regression"]], -1)

    wrapper = torch.nn.Module()
    wrapper.network = network  # its parameters and its mode are the wrapper's
    wrapper.forward = segment if name in SEGMENTERS else detect
    return wrapper


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


def _segmenter(name: str) -> Callable[[Any, Options], Any]:
    def build(models: Any, options: Options) -> Any:
        auxiliary = {"aux_loss": options["auxiliary"]} if "auxiliary" in options else {}
        make = getattr(models.segmentation, name)
        classes = options["num_classes"]
        return make(weights=None, weights_backbone=None, num_classes=classes, **auxiliary)

    return build


def _ssdlite(models: Any, options: Options) -> Any:
    """Build torchvision's SSDLite320 of any width and tail, which its own constructor couples."""
    from torch.nn import BatchNorm2d

    ssdlite, size, classes = models.detection.ssdlite, (320, 320), options["num_classes"]
    norm = partial(BatchNorm2d, eps=1e-3, momentum=0.03)
    network = models.mobilenet_v3_large(
        width_mult=options["alpha"], reduced_tail=options["reduced_tail"], norm_layer=norm
    )
    maps = ssdlite._mobilenet_extractor(network, 6, norm)
    boxes = ssdlite.DefaultBoxGenerator([[2, 3]] * 6, min_ratio=0.2, max_ratio=0.95)
    channels = ssdlite.det_utils.retrieve_out_channels(maps, size)
    head = ssdlite.SSDLiteHead(channels, boxes.num_anchors_per_location(), classes, norm)
    limits = {
        "score_thresh": 0.001,
        "nms_thresh": 0.55,
        "detections_per_img": 300,
        "topk_candidates": 300,
    }
    half = [0.5] * 3
    return ssdlite.SSD(
        maps, boxes, size, classes, image_mean=half, image_std=half, head=head, **limits
    )


def _timm(origin: str, model: str) -> Callable[[Any, Options], Any]:
    def build(timm: Any, options: Options) -> Any:
        network = architecture_of(origin, model, options)
        if network is None:
            raise InputError(f"timm has no {model} with {_written(options)}")
        own = {each: options[each] for each in ("aux_logits",) if each in options}
        return timm.create_model(network, num_classes=options["num_classes"], **own)

    return build


def _written(options: Options) -> str:
    """Name the options by which timm's networks of a kind differ."""
    known = {name for family in FAMILIES for name in ("alpha", *family.options)}
    return " ".join(f"{name}={value}" for name, value in options.items() if name in known)


KERAS: Mapping[str, tuple[str, tuple[str, ...], Options]] = {
    "mobilenet_v1": ("MobileNet", ("alpha", "depth_multiplier"), {}),
    "mobilenet_v2": ("MobileNetV2", ("alpha",), {}),
    "mobilenet_v3_large": (
        "MobileNetV3Large",
        ("alpha", "minimalistic"),
        {"include_preprocessing": False},
    ),
    "mobilenet_v3_small": (
        "MobileNetV3Small",
        ("alpha", "minimalistic"),
        {"include_preprocessing": False},
    ),
    "xception": ("Xception", (), {}),
    "inception_v3": ("InceptionV3", (), {}),
    "inception_resnet_v2": ("InceptionResNetV2", (), {}),
}
"""Registered name -> Keras's name, the options that both have, and options that only Keras has."""


def build_keras(
    applications: Any, model: str, options: Options, image_size: Size, **more: Any
) -> Any:
    """Build Keras's network for an image size; without classes it returns pooled features."""
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    name, shared, others = KERAS[model]
    classes = options["num_classes"]
    head = {"classes": classes} if classes else {"include_top": False, "pooling": "avg"}
    return getattr(applications, name)(
        weights=None,
        input_shape=(height, width, 3),
        classifier_activation=None,
        **head,
        **{option: options[option] for option in shared},
        **others,
        **more,
    )


def _keras(model: str) -> Callable[..., Any]:
    def build(applications: Any, options: Options, image_size: Size) -> Any:
        return build_keras(applications, model, options, image_size)

    return build


_BUILDERS: dict[tuple[str, str], Callable[..., Any]] = {
    ("torchvision", "mobilenet_v2"): _mobilenet_v2,
    ("torchvision", "mobilenet_v3_large"): _mobilenet_v3("large"),
    ("torchvision", "mobilenet_v3_small"): _mobilenet_v3("small"),
    ("torchvision", "mnasnet"): _mnasnet,
    ("torchvision", "shufflenet_v2"): _shufflenet_v2,
    ("torchvision", "inception_v1"): _inception_v1,
    ("torchvision", "inception_v3"): _inception_v3,
    ("torchvision", "lraspp"): _segmenter("lraspp_mobilenet_v3_large"),
    ("torchvision", "deeplab_v3"): _segmenter("deeplabv3_mobilenet_v3_large"),
    ("torchvision", "ssdlite"): _ssdlite,
    **{(each.origin, each.model): _timm(each.origin, each.model) for each in FAMILIES},
    **{("keras", model): _keras(model) for model in KERAS},
}
