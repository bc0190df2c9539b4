"""Weights directories: the variables of a network, and what they are (see README, "On disk")."""

import dataclasses
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from flaxmobile.compat import make_checkpoint_handler
from flaxmobile.errors import InputError
from flaxmobile.layers import Network
from flaxmobile.preprocessing import Preprocessing
from flaxmobile.registry import as_dtype, create_model, resolve_name
from flaxmobile.variables import abstract_variables, check_variables
from flaxmobile.versions import __version__

Tree = dict[str, Any]

_DESCRIPTION = "model.json"
_VARIABLES = "variables"
_FORMAT = 1
_PART = 2**24
"""Bytes that are written at once, the largest array apart."""


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What a weights directory says beside the numbers.

    Attributes:
      preprocessing: how images are prepared for these weights.
      class_names: one per class, where known.
      source: where the weights come from: file, SHA-256, origin, licence, training run.
    """

    preprocessing: Preprocessing = dataclasses.field(default_factory=Preprocessing)
    class_names: tuple[str, ...] | None = None
    source: Tree = dataclasses.field(default_factory=dict)


def save_weights(
    directory: str | os.PathLike[str],
    model_name: str,
    options: Tree,
    variables: Tree,
    metadata: Metadata | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Write a weights directory; it appears complete or not at all.

    Args:
      directory: where; its parents are made.
      model_name: registered name or alias.
      options: of `create_model`, `num_classes` among them.
      variables: {"params": …, "batch_stats": …} of that model.
      metadata: preprocessing, class names and source.
      overwrite: replace a directory that exists.

    Raises:
      InputError: the directory exists, or the variables are not those of the model.
    """
    directory, metadata = Path(directory), metadata or Metadata()
    if directory.exists() and not overwrite:
        raise InputError(f"{directory} exists already; remove it or choose another directory")
    model = create_model(model_name, **options)
    names = metadata.class_names
    if names is not None and len(names) != model.num_classes:
        raise InputError(f"{len(names)} class names were given for {model.num_classes} classes")
    variables = jax.tree.map(np.asarray, variables)
    check_variables(abstract_variables(model), variables, "the given tree")
    directory.parent.mkdir(parents=True, exist_ok=True)
    draft = directory.with_name(f".{directory.name}.{os.getpid()}.tmp")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        with ocp.Checkpointer(make_checkpoint_handler(_PART)) as checkpointer:
            checkpointer.save(draft.absolute() / _VARIABLES, variables)
        description = {
            "format": _FORMAT,
            "library": f"flaxmobile {__version__}",
            "model": resolve_name(model_name),
            "options": {**options, "dtype": as_dtype(options.get("dtype", "float32")).name},
            "num_classes": model.num_classes,
            "class_names": names,
            "preprocessing": metadata.preprocessing.to_json(),
            "source": metadata.source,
            "sha256": {name: _sha256(draft / name) for name in _files(draft)},
        }
        (draft / _DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")
        _replace(draft, directory)
    except (OSError, ValueError) as error:  # tensorstore raises ValueError on a full disk
        reason = str(error).partition("\n")[0]
        raise InputError(f"{directory} cannot be written: {reason}") from error
    finally:
        _remove(draft)


def _remove(draft: Path) -> None:
    """Remove what a failed save left; threads of its store may go on writing for a moment."""
    for _ in range(50):
        if not draft.exists():
            return
        shutil.rmtree(draft, ignore_errors=True)
        time.sleep(0.05)


def load_weights(directory: str | os.PathLike[str]) -> tuple[Network, Tree]:
    """Read a weights directory.

    Returns:
      The model, and its variables as float32 arrays on the default device.

    Raises:
      InputError: not a weights directory, a damaged file (named), or parameters that are not those
        of the model that model.json names (all listed).
    """
    directory = Path(directory)
    description = _read_description(directory)
    model = _described_model(directory, description)
    sums = description["sha256"]
    for name in _files(directory / _VARIABLES):
        if f"{_VARIABLES}/{name}" not in sums:
            raise InputError(f"{_VARIABLES}/{name} has no SHA-256 in {directory / _DESCRIPTION}")
    for name, digest in sums.items():
        path = directory / name
        if not path.is_file():
            raise InputError(f"{path} is missing: the weights directory is incomplete")
        if _sha256(path) != digest:
            raise InputError(f"{path} is damaged: its SHA-256 is not the one in {_DESCRIPTION}")
    expected = abstract_variables(model)
    with ocp.StandardCheckpointer() as checkpointer:
        path = (directory / _VARIABLES).absolute()
        stored = checkpointer.metadata(path).item_metadata.tree
        check_variables(expected, stored, str(directory))
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        target = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), expected
        )
        return model, checkpointer.restore(path, target)


def load_metadata(directory: str | os.PathLike[str]) -> Metadata:
    """Read what a weights directory says beside the numbers.

    Raises:
      InputError: not a weights directory, or its model.json is damaged.
    """
    description = _read_description(Path(directory))
    names = description["class_names"]
    return Metadata(
        Preprocessing.from_json(description["preprocessing"]),
        None if names is None else tuple(names),
        description["source"],
    )


def load_options(directory: str | os.PathLike[str]) -> tuple[str, Tree]:
    """Read the model's name and options from a weights directory."""
    description = _read_description(Path(directory))
    return description["model"], description["options"]


def _described_model(directory: Path, description: Tree) -> Network:
    try:
        return create_model(description["model"], **description["options"])
    except InputError as error:
        raise InputError(f"{directory / _DESCRIPTION}: {error}") from None


def _read_description(directory: Path) -> Tree:
    path = directory / _DESCRIPTION
    if not path.is_file():
        best = directory / "best"
        of_run = f"; that run's best weights are {best}" if (best / _DESCRIPTION).is_file() else ""
        raise InputError(
            f"{directory} is not a weights directory: it has no {_DESCRIPTION}{of_run}"
        )
    try:
        description = json.loads(path.read_text())
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}") from None
    kinds = {"model": str, "options": dict, "preprocessing": dict, "source": dict, "sha256": dict}
    for key, kind in kinds.items():
        if not isinstance(description, dict) or not isinstance(description.get(key), kind):
            raise InputError(f"{path} is damaged: it has no {key!r}")
    if description.get("format") != _FORMAT:
        raise InputError(
            f"{path} has format {description.get('format')}; this version reads format {_FORMAT}"
        )
    names, count = description.setdefault("class_names", None), description.get("num_classes")
    named = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if names is not None and not (named and len(names) == count):
        raise InputError(f"{path} is damaged: class_names must be null or {count} names")
    return description


def _files(directory: Path) -> Iterator[str]:
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            yield path.relative_to(directory).as_posix()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _replace(draft: Path, directory: Path) -> None:
    """Put the finished draft in place of the directory, if there is one."""
    old = directory.with_name(f".{directory.name}.{os.getpid()}.old")
    if directory.exists():
        directory.rename(old)
    draft.rename(directory)
    shutil.rmtree(old, ignore_errors=True)
