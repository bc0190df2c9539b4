"""model.json: the file of a weights directory that describes its network."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flaxmobile.errors import InputError
from flaxmobile.trees import Tree

DESCRIPTION = "model.json"
FORMAT = 1


def read_description(directory: Path) -> Tree:
    """Read model.json of a weights directory.

    Raises:
      InputError: there is none, or it is damaged.
    """
    path = directory / DESCRIPTION
    if not path.is_file():
        best = directory / "best"
        of_run = f"; that run's best weights are {best}" if (best / DESCRIPTION).is_file() else ""
        raise InputError(f"{directory} is not a weights directory: it has no {DESCRIPTION}{of_run}")
    try:
        description = json.loads(path.read_text())
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}") from None
    kinds = {"model": str, "options": dict, "preprocessing": dict, "source": dict, "sha256": dict}
    for key, kind in kinds.items():
        if not isinstance(description, dict) or not isinstance(description.get(key), kind):
            raise InputError(f"{path} is damaged: it has no {key!r}")
    if description.get("format") != FORMAT:
        raise InputError(
            f"{path} has format {description.get('format')}; this version reads format {FORMAT}"
        )
    names, count = description.setdefault("class_names", None), description.get("num_classes")
    named = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if names is not None and not (named and len(names) == count):
        raise InputError(f"{path} is damaged: class_names must be null or {count} names")
    return description


def to_json(description: Tree) -> str:
    """Write a description as the text of model.json.

    Raises:
      InputError: JSON cannot hold the options or the source.
    """

    def convert(value: Any) -> Any:
        if isinstance(value, Mapping):  # Flax freezes the dictionaries of a module
            return dict(value)
        if isinstance(value, np.generic):
            return value.item()
        raise InputError(
            f"{DESCRIPTION} cannot hold {value!r} in options or source; accepted: numbers, text, "
            "lists and dictionaries"
        )

    return json.dumps(description, indent=2, default=convert) + "\n"
