"""config.json of a repository of weights: network, options, preparation, classes.

Source of the formats: timm's `save_for_hf` and `load_model_config_from_hf`; transformers'
`MobileNetV1Config` and `MobileNetV2Config`.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from convert.formats.contents import Statements
from convert.rules.timm.files import preset
from convert.rules.timm.names import difference_of, find_architecture
from flaxmobile.errors import InputError
from flaxmobile.preprocessing import Preprocessing
from flaxmobile.tasks import resolve_name
from flaxmobile.trees import as_tuples


class Config(NamedTuple):
    """The network of a repository's weights, and statements about them.

    Attributes:
      origin: whose names the tensors have.
      model: registered name of the network.
      said: about the weights.
    """

    origin: str
    model: str
    said: Statements


def read_config(path: Path, name: str) -> Config:
    """Read a config.json.

    Args:
      path: of the file.
      name: of the repository, for messages.

    Raises:
      InputError: it is damaged, or of a network, or a preparation of images, that is not read here.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if config.get("model_type") in _TRANSFORMERS:
            return _read_transformers(config, name)
        return (_read_own if "flaxmobile" in config else _read_timms)(config, name)
    except InputError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{name} has a config.json that is damaged: {error!r}") from None


def _read_own(config: dict[str, Any], name: str) -> Config:
    """Read what `flaxmobile push` wrote beside timm's fields."""
    own = config["flaxmobile"]
    said = Statements(
        Preprocessing.from_json(own["preprocessing"]).to_json(),
        own["output"],
        _class_names(config, {}),
        dict(own["source"]),
        options={option: as_tuples(value) for option, value in own["options"].items()},
    )
    return Config(own["origin"], resolve_name(own["model"]), said)


_TRANSFORMERS: dict[str, dict[str, Any]] = {
    "mobilenet_v1": {
        "hidden_act": "relu6",
        "layer_norm_eps": 1e-3,
        "min_depth": 8,
        "num_channels": 3,
        "tf_padding": True,
    }
}
_TRANSFORMERS["mobilenet_v2"] = {
    **_TRANSFORMERS["mobilenet_v1"],
    "depth_divisible_by": 8,
    "expand_ratio": 6,
    "finegrained_output": True,
    "first_layer_is_expansion": True,
    "output_stride": 32,
}
"""Registered name, which is also transformers' -> its options that are our network's."""


def _read_transformers(config: dict[str, Any], name: str) -> Config:
    """Read transformers' configuration; its converter of these networks sets the preparation."""
    model = config["model_type"]
    expected = _TRANSFORMERS[model]
    changes = {
        key: config[key] for key in expected if config.get(key, expected[key]) != expected[key]
    }
    if changes:
        raise InputError(f"{name} holds {model} with {changes}; accepted: without them")
    size, labels = config.get("image_size", 224), config.get("id2label") or {}
    names = tuple(str(labels[str(index)]) for index in range(len(labels)))
    named = names if names and names[0] != "LABEL_0" else None
    preprocessing = {"image_size": size, "resize_size": size + 32}
    return Config("transformers", model, Statements(preprocessing, class_names=named))


def _read_timms(config: dict[str, Any], name: str) -> Config:
    inner = config.get("pretrained_cfg", config)  # before timm 0.9 all was at the top
    architecture = config.get("architecture")
    found = find_architecture(str(architecture))
    if found is None:
        difference = difference_of(str(architecture))
        raise InputError(
            f"{name} holds {architecture or 'a network that its config.json does not name'}"
            f"{f' ({difference})' if difference else ''}; "
            "accepted: networks of timm's that `flaxmobile list --pretrained` shows"
        )
    arguments = {"global_pool": config.get("global_pool"), **config.get("model_args", {})}
    changes = {
        name: value
        for name, value in arguments.items()
        if name not in _PLAIN and value not in (None, _USUAL.get(name))
    }
    if changes:
        raise InputError(f"{name} holds {architecture} with {changes}; accepted: without them")
    licence = {"licence": inner["license"]} if inner.get("license") else {}
    preprocessing, names = _preprocessing(inner, name), _class_names(config, inner)
    return Config(*found, Statements(preprocessing, class_names=names, source=licence))


_PLAIN = ("num_classes", "in_chans", "drop_rate", "drop_path_rate")
"""Arguments of timm's networks that change no output, or that the tensors show."""
_USUAL = {"global_pool": "avg"}


def _preprocessing(config: dict[str, Any], name: str) -> dict[str, Any]:
    """Turn timm's fields, those that are there, into those of `Preprocessing`."""
    stated: dict[str, Any] = {}
    if "input_size" in config:
        channels, height, width = config["input_size"]
        if channels != 3 or height != width:
            raise InputError(
                f"{name} takes images of {channels}×{height}×{width}; accepted: 3 channels, square"
            )
        stated |= {"image_size": height}
        if "crop_pct" in config:
            stated |= {"resize_size": preset(height, config["crop_pct"]).resize_size}
    if config.get("crop_mode", "center") != "center":
        raise InputError(f"{name} has crop_mode {config['crop_mode']!r}; accepted: 'center'")
    stated |= {key: tuple(map(float, config[key])) for key in ("mean", "std") if key in config}
    return stated | (
        {"interpolation": config["interpolation"]} if "interpolation" in config else {}
    )


def _class_names(config: dict[str, Any], inner: dict[str, Any]) -> tuple[str, ...] | None:
    """Read the names of the classes: their descriptions, where there are some."""
    names = config.get("label_names", inner.get("label_names"))
    if names is None:
        return None
    if isinstance(names, dict):
        names = [names[str(index)] for index in range(len(names))]
    described = config.get("label_descriptions", inner.get("label_descriptions")) or {}
    return tuple(str(described.get(each, each)) for each in names)
