"""Networks of every task by the name in model.json: classifiers, segmenters, detectors."""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

from flaxmobile import registry
from flaxmobile.detection.ssdlite import SSDLite
from flaxmobile.errors import InputError, check_choice, unknown
from flaxmobile.layers import HeadedNetwork, Model
from flaxmobile.registry import check_type, create_backbone, create_model, plain
from flaxmobile.segmentation import LRASPP, DeepLabV3, Segmenter
from flaxmobile.specs import ALIASES, SPECS

SEGMENTERS: Mapping[str, type[Segmenter]] = {"lraspp": LRASPP, "deeplab_v3": DeepLabV3}
DETECTORS: Mapping[str, type[SSDLite]] = {"ssdlite": SSDLite}
HEADS: Mapping[str, type[HeadedNetwork]] = {**SEGMENTERS, **DETECTORS}
"""Name of a head -> its class."""

_PUBLISHED = {"lraspp": (520, 21), "deeplab_v3": (520, 21), "ssdlite": (320, 91)}
"""Side of the images in pixels and classes of torchvision's networks, all over MobileNet V3."""

_NOT_OPTIONS = ("parent", "name", "backbone")
_Head = typing.TypeVar("_Head", bound=HeadedNetwork)


def create_segmenter(head: str, backbone: str, /, *, num_classes: int, **options: Any) -> Segmenter:
    """Build a network that gives a class to every pixel.

    Args:
      head: "lraspp" or "deeplab_v3".
      backbone: a name of `list_models()` or an alias.
      num_classes: classes, the background among them.
      **options: fields of the head's class, such as `head_variant` (also as `variant`, where the
        backbone has no such option), and options of the backbone, such as `alpha`, `dtype` and
        `output_stride`, which is 16 by default. torchvision's networks have `dilated=True`.

    Returns:
      A Flax module that maps images [n, h, w, 3] to logits [n, h, w, num_classes] in float32.

    Raises:
      InputError: an unknown head, backbone or option, a value that one of the two does not offer,
        or a backbone without the maps that the head needs.
    """
    check_choice("segmentation head", head, SEGMENTERS)
    options |= {"backbone": backbone, "num_classes": num_classes}
    return _create(head, SEGMENTERS[head], options)


def create_detector(
    head: str, backbone: str, /, *, num_classes: int = 91, **options: Any
) -> SSDLite:
    """Build a network that finds objects; `flaxmobile.detect_objects` runs it on an image.

    Args:
      head: "ssdlite".
      backbone: a name of `list_models()` or an alias.
      num_classes: classes of objects, and the background as class 0; COCO has 91.
      **options: fields of the head's class, such as `head_variant` ("torchvision" or "paper"), and
        options of the backbone, such as `alpha` and `dtype`. MobileNet V3 has `reduced_tail=True`
        by default, as in its paper.

    Returns:
      A Flax module that maps images [n, h, w, 3] to {"offsets": [n, boxes, 4], "logits":
      [n, boxes, num_classes]} in float32, see `flaxmobile.detection.SSDLite`.

    Raises:
      InputError: an unknown head, backbone or option, a value that one of the two does not offer,
        or a backbone without the maps that the head needs.
    """
    check_choice("detection head", head, DETECTORS)
    options |= {"backbone": backbone, "num_classes": num_classes}
    return _create(head, DETECTORS[head], options)


def build(name: str, /, **options: Any) -> Model:
    """Build a classifier, or a network of another task, by its name in model.json.

    Args:
      name: a name of `list_models()`, an alias, or the name of a head.
      **options: of `create_model`; for a head `backbone`, `num_classes` and others.

    Raises:
      InputError: as `create_model`, `create_segmenter` and `create_detector`.
    """
    if name in HEADS:
        return _create(name, HEADS[name], options)
    return create_model(name, **options)


def resolve_name(name: str) -> str:
    """Return the registered name of a network or head for its name or alias.

    Raises:
      InputError: no such network or head; suggests the nearest valid name.
    """
    if name in HEADS:
        return name
    try:
        return registry.resolve_name(name)
    except InputError:
        raise unknown("model", name, [*SPECS, *ALIASES, *HEADS]) from None


def default_image_size(name: str) -> int:
    """Return the side in pixels of the images that a network is used with, a head's torchvision's.

    Raises:
      InputError: an unknown network.
    """
    return _PUBLISHED[name][0] if name in HEADS else registry.get_spec(name).image_size


def published_options(name: str) -> dict[str, Any]:
    """Return the backbone and the classes of torchvision's network with a head; {} without one."""
    if name not in HEADS:
        return {}
    return {"backbone": "mobilenet_v3_large", "num_classes": _PUBLISHED[name][1]}


def head_name(network: type[Model]) -> str | None:
    """Return the name of a head by its class; None for the class of a classifier."""
    return next((name for name, head in HEADS.items() if head is network), None)


def options_of(model: Model) -> dict[str, Any]:
    """The values of a network's options, by name: those with which `build` makes it."""
    if not isinstance(model, HeadedNetwork):
        return registry.options_of(model)
    backbone = registry.options_of(model.backbone)
    own = {name: getattr(model, name) for name in _fields(type(model))}
    name = next(name for name, spec in SPECS.items() if spec.network is type(model.backbone))
    return {**backbone, **own, "backbone": name}


def _create(name: str, head: type[_Head], options: dict[str, Any]) -> _Head:
    """Build a head over a backbone; options that the head lacks are the backbone's."""
    if not isinstance(options.get("backbone"), str):
        raise InputError(
            f"{name} has backbone {options.get('backbone')!r}; accepted: the name of a network"
        )
    hints, fields = typing.get_type_hints(head), _fields(head)
    if "variant" in options and "variant" not in registry.model_options(options["backbone"]):
        options = {"head_variant": options["variant"], **options}
        del options["variant"]
    own = {option: plain(options[option]) for option in fields if option in options}
    for option, value in own.items():
        check_type(option, value, hints[option])
    others = {option: value for option, value in options.items() if option not in own}
    model_name, submodule = others.pop("backbone"), others.pop("name", None)
    check_type("name", submodule, str | None)
    offered = list(dict.fromkeys([*fields, *registry.model_options(model_name)]))
    for option in others:
        if option not in offered:
            raise unknown(
                f"option of {name} on {registry.resolve_name(model_name)}", option, offered
            )
    if registry.get_spec(model_name).network.dilates:
        others.setdefault("output_stride", head.default_output_stride)
    for option in head.backbone_defaults.keys() & registry.model_options(model_name).keys():
        others.setdefault(option, head.backbone_defaults[option])
    network = create_backbone(model_name, **others)
    maps = head.choose_maps(network, own.get("head_variant", head.head_variant))
    model = head(network.clone(**maps), **own, name=submodule)
    model.check()
    return model


def _fields(head: type[HeadedNetwork]) -> list[str]:
    """Names of a head's own options."""
    return [each.name for each in dataclasses.fields(head) if each.name not in _NOT_OPTIONS]
