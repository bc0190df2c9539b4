"""config.json of a repository of weights, in timm's format: network, options, preparation, classes.

Source of the format: timm's `save_for_hf` and `load_model_config_from_hf`.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from convert.formats.contents import Statements
from convert.rule import NO_OPTIONS, Options
from convert.rules.timm.files import preset
from convert.rules.timm.names import find_architecture
from flaxmobile.errors import InputError
from flaxmobile.preprocessing import Preprocessing
from flaxmobile.registry import resolve_name
from flaxmobile.trees import as_tuples


class Config(NamedTuple):
    """The network of a repository's weights, and statements about them.

    Attributes:
      origin: whose names the tensors have.
      model: registered name of the network.
      said: about the weights.
      options: of the network that no tensor shows.
    """

    origin: str
    model: str
    said: Statements
    options: Options = NO_OPTIONS


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
        inner = config.get("pretrained_cfg", config)  # before timm 0.9 all was at the top
        architecture = str(config.get("architecture", ""))
        preprocessing = _preprocessing(inner, name)
        names = _class_names(config, inner)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name} has a config.json that is damaged: {error!r}") from None
    if "flaxmobile" in config:
        return _read_own(config["flaxmobile"], names, name)
    found = find_architecture(architecture)
    if found is None:
        raise InputError(
            f"{name} holds {architecture or 'a network that its config.json does not name'}; "
            "accepted: networks of timm's that `flaxmobile list --pretrained` shows"
        )
    licence = inner.get("license")
    said = Statements(
        preprocessing, class_names=names, source={"licence": licence} if licence else {}
    )
    return Config(*found, said)


def _read_own(own: dict[str, Any], names: tuple[str, ...] | None, name: str) -> Config:
    """Read what `flaxmobile push` wrote beside timm's fields."""
    try:
        said = Statements(
            Preprocessing.from_json(own["preprocessing"]).to_json(),
            own["output"],
            names,
            dict(own["source"]),
        )
        options = {key: as_tuples(value) for key, value in own["options"].items()}
        return Config(own["origin"], resolve_name(own["model"]), said, options)
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(f"{name} has a config.json that is damaged: {error!r}") from None


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
    return stated | {key: config[key] for key in ("interpolation",) if key in config}


def _class_names(config: dict[str, Any], inner: dict[str, Any]) -> tuple[str, ...] | None:
    """Read the names of the classes: their descriptions, where there are some."""
    names = config.get("label_names", inner.get("label_names"))
    if names is None:
        return None
    if isinstance(names, dict):
        names = [names[str(index)] for index in range(len(names))]
    described = config.get("label_descriptions", inner.get("label_descriptions")) or {}
    return tuple(str(described.get(each, each)) for each in names)
