"""A weights directory as a repository of the Hugging Face Hub: weights, config.json, model card.

The tensors have timm's names where timm has the network, so that timm loads the repository too;
otherwise the names of another torch library that has it, otherwise our own.
"""

import json
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from convert import engine
from convert.formats.safetensors import write_safetensors
from convert.published.card import write_card
from convert.published.hub import CONFIG, WEIGHTS, Repository, explain, import_hub
from convert.published.own import ORIGIN, own_names
from convert.rule import Rule
from convert.rules import RULES
from convert.rules.timm.names import architecture_of
from flaxmobile.errors import InputError
from flaxmobile.layers import Model
from flaxmobile.preprocessing import Preprocessing
from flaxmobile.tasks import options_of
from flaxmobile.weights import WeightsDirectory, open_weights

CARD = "README.md"
_ORIGINS = ("timm", "timm-tf", "torchvision", "authors")
"""Origins whose names are taken, the first that has the network."""


class Pushed(NamedTuple):
    """A repository after an upload.

    Attributes:
      url: of its page.
      origin: whose names the tensors have.
      files: those that were written; a model card that was there stays.
    """

    url: str
    origin: str
    files: tuple[str, ...]


def push(directory: Path, name: str, *, private: bool = False) -> Pushed:
    """Upload a weights directory.

    Args:
      directory: of weights.
      name: OWNER/REPOSITORY, which is made if it is not there.
      private: make it a private one.

    Raises:
      InputError: not a weights directory, huggingface_hub is not installed, or the Hub refuses.
    """
    repository, library = Repository.parse(name), import_hub()
    weights = open_weights(directory)
    with tempfile.TemporaryDirectory() as folder:
        origin = write_repository(weights, Path(folder), name)
        try:
            api = library.HfApi(library_name="flaxmobile")
            url = api.create_repo(repository.name, private=private or None, exist_ok=True)
            kept = {CARD} if api.file_exists(repository.name, CARD) else set()
            files = sorted({path.name for path in Path(folder).iterdir()} - kept)
            api.create_commit(
                repository.name,
                [library.CommitOperationAdd(file, str(Path(folder) / file)) for file in files],
                commit_message=f"{weights.model_name} from flaxmobile",
            )
        except Exception as error:  # the libraries beneath raise anything, from OSError to theirs
            refused = isinstance(error, library.errors.HfHubHTTPError)
            hint = "; `hf auth login` logs in" if refused else ""
            raise InputError(f"{repository} cannot be written: {explain(error)}{hint}") from None
    return Pushed(str(url), origin, tuple(files))


def write_repository(weights: WeightsDirectory, folder: Path, name: str) -> str:
    """Write the files of a repository of that name, and return whose names the tensors have.

    Raises:
      InputError: the weights are damaged.
    """
    model, variables = weights.load()
    origin, rule = _origin_of(weights.model_name, model)
    tensors: Mapping[str, np.ndarray] = (
        own_names(variables) if rule is None else engine.from_flax(rule, model, variables)
    )
    architecture = architecture_of(origin, weights.model_name, options_of(model))
    config = _config(weights, origin, rule, architecture or weights.model_name)
    write_safetensors(folder / WEIGHTS[0], tensors)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / CARD).write_text(write_card(weights, name, architecture), encoding="utf-8")
    return origin


def _origin_of(name: str, model: Model) -> tuple[str, Rule | None]:
    for origin in _ORIGINS:
        rule = RULES.get((origin, name))
        if rule is None or engine.obstacles(rule, model):
            continue
        if origin.startswith("timm") and not architecture_of(origin, name, options_of(model)):
            continue  # of another width than timm's
        return origin, rule
    return ORIGIN, None


def _config(
    weights: WeightsDirectory, origin: str, rule: Rule | None, architecture: str
) -> dict[str, Any]:
    """Describe the weights in timm's format, and, under "flaxmobile", completely."""
    model, metadata = weights.model, weights.metadata
    preset = metadata.preprocessing
    side = preset.side
    modules = {} if rule is None else dict(rule.modules(model))
    layers = {
        "first_conv": next(iter(modules.values()), None),
        "classifier": modules.get("classifier"),
    }
    return {
        "architecture": architecture,
        "num_classes": model.num_classes,
        **({"label_names": metadata.class_names} if metadata.class_names else {}),
        "pretrained_cfg": {
            "input_size": [model.in_channels, side, side],
            "fixed_input_size": False,
            "interpolation": preset.interpolation,
            "crop_pct": _crop_pct(preset),
            "crop_mode": "center",
            "mean": preset.mean,
            "std": preset.std,
            "num_classes": model.num_classes,
            **{key: layer for key, layer in layers.items() if layer is not None},
        },
        "flaxmobile": {
            "model": weights.model_name,
            "origin": origin,
            "options": weights.options,
            "preprocessing": preset.to_json(),
            "output": metadata.output,
            "source": {key: metadata.source[key] for key in ("licence",) if key in metadata.source},
        },
    }


def _crop_pct(preset: Preprocessing) -> float:
    """Return the share of the image that timm crops: it rounds size / share down."""
    share = preset.side / preset.shorter_side
    whole = math.floor(preset.side / share) == preset.shorter_side
    return share if whole else math.nextafter(share, 0.0)
