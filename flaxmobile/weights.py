"""Weights directories: the variables of a network, and model.json (docs/guides/train.md)."""

import dataclasses
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import jax
import orbax.checkpoint as ocp

from flaxmobile.buckets import fetch_directory, is_url
from flaxmobile.compat import make_checkpoint_handler
from flaxmobile.errors import InputError, first_line, unknown
from flaxmobile.files import written_at_once
from flaxmobile.layers import Model
from flaxmobile.model_json import DESCRIPTION, FORMAT, read_description, to_json
from flaxmobile.outputs import OUTPUTS, default_output
from flaxmobile.preprocessing import Preprocessing
from flaxmobile.registry import as_dtype
from flaxmobile.tasks import build, resolve_name
from flaxmobile.trees import Tree
from flaxmobile.variables import abstract_variables, check_variables, widen
from flaxmobile.versions import __version__

_VARIABLES = "variables"
_PART = 2**24
"""Bytes written at once; a larger array is written whole."""


@dataclasses.dataclass(frozen=True)
class Metadata:
    """Facts about weights beside their numbers.

    Attributes:
      preprocessing: how images are prepared for these weights.
      class_names: one per class, where known.
      source: where the weights come from: file, SHA-256, origin, licence, training run.
      output: activation that turns logits into scores, see `flaxmobile.outputs`; by default
        softmax, or sigmoid for a single class.
    """

    preprocessing: Preprocessing = dataclasses.field(default_factory=Preprocessing)
    class_names: tuple[str, ...] | None = None
    source: Tree = dataclasses.field(default_factory=dict)
    output: str | None = None

    def __post_init__(self) -> None:
        if self.output is not None and self.output not in OUTPUTS:
            raise unknown("output", self.output, OUTPUTS)

    def check_names(self, num_classes: int) -> None:
        """Raise InputError unless there is a name for each class, or none at all."""
        count = num_classes if self.class_names is None else len(self.class_names)
        if count != num_classes:
            raise InputError(f"{count} class names were given for {num_classes} classes")


@dataclasses.dataclass(frozen=True)
class WeightsDirectory:
    """A weights directory whose model.json has been read; `load` reads the variables.

    Attributes:
      path: the directory.
      model_name: registered name of the network, or of its head.
      options: options of `flaxmobile.tasks.build`, as model.json has them.
      model: the network.
      metadata: preprocessing, class names and source.
      sha256: file below path -> its SHA-256.
    """

    path: Path
    model_name: str
    options: Tree
    model: Model
    metadata: Metadata
    sha256: dict[str, str]

    def load(self) -> tuple[Model, Tree]:
        """Read the variables, see `load_weights`."""
        self._check_files()
        expected = abstract_variables(self.model)
        with ocp.StandardCheckpointer(multiprocessing_options=alone()) as checkpointer:
            path = (self.path / _VARIABLES).absolute()
            stored = checkpointer.metadata(path).item_metadata.tree
            check_variables(expected, stored, str(self.path))
            device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
            target = jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), expected
            )
            return self.model, checkpointer.restore(path, target)

    def _check_files(self) -> None:
        for name in _files(self.path / _VARIABLES):
            if f"{_VARIABLES}/{name}" not in self.sha256:
                raise InputError(f"{_VARIABLES}/{name} has no SHA-256 in {self.path / DESCRIPTION}")
        for name, digest in self.sha256.items():
            path = self.path / name
            if not path.is_file():
                raise InputError(f"{path} is missing: the weights directory is incomplete")
            if _sha256(path) != digest:
                raise InputError(f"{path} is damaged: its SHA-256 is not the one in {DESCRIPTION}")


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
      model_name: registered name or alias, or for a segmenter its head's.
      options: options of `create_model`, `num_classes` among them; for a head `backbone` too.
      variables: {"params": …, "batch_stats": …} of that model; bfloat16 is stored as float32.
      metadata: preprocessing, class names and source.
      overwrite: replace a directory that exists.

    Raises:
      InputError: the directory exists or cannot be written, the variables are not those of the
        model, or JSON cannot hold the options or the source.
    """
    directory, metadata = Path(directory), metadata or Metadata()
    if directory.exists() and not overwrite:
        raise InputError(f"{directory} exists already; remove it or choose another directory")
    model = build(model_name, **options)
    metadata.check_names(model.num_classes)
    variables = widen(variables)
    check_variables(abstract_variables(model), variables, "the given tree")
    description = {
        "format": FORMAT,
        "library": f"flaxmobile {__version__}",
        "model": resolve_name(model_name),
        "options": {**options, "dtype": as_dtype(options.get("dtype", "float32")).name},
        "num_classes": model.num_classes,
        "class_names": metadata.class_names,
        "output": metadata.output or default_output(model.num_classes),
        "preprocessing": metadata.preprocessing.to_json(),
        "source": metadata.source,
    }
    to_json(description)  # refuses before anything is written
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with written_at_once(directory) as draft:
            handler = make_checkpoint_handler(_PART)
            with ocp.Checkpointer(handler, multiprocessing_options=alone()) as checkpointer:
                checkpointer.save(draft.absolute() / _VARIABLES, variables)
            description["sha256"] = {name: _sha256(draft / name) for name in _files(draft)}
            (draft / DESCRIPTION).write_text(to_json(description))
    except (OSError, ValueError) as error:
        # Orbax's store reports a full disk as a ValueError with the system's error code.
        if isinstance(error, ValueError) and "os_error_code" not in str(error):
            raise
        raise InputError(f"{directory} cannot be written: {first_line(error)}") from error


def open_weights(directory: str | os.PathLike[str]) -> WeightsDirectory:
    """Read model.json of a weights directory, which may be one in a bucket (gs://BUCKET/RUN/best).

    Raises:
      InputError: not a weights directory, or its model.json is damaged.
    """
    if is_url(directory):
        path = fetch_directory(os.fspath(directory))
        drop_strangers(path)
    else:
        path = Path(directory)
    description = read_description(path)
    try:
        model = build(description["model"], **description["options"])
        names = description["class_names"]
        metadata = Metadata(
            Preprocessing.from_json(description["preprocessing"]),
            None if names is None else tuple(names),
            description["source"],
            description.get("output") or default_output(model.num_classes),
        )
    except InputError as error:
        raise InputError(f"{path / DESCRIPTION}: {error}") from None
    return WeightsDirectory(
        path=path,
        model_name=description["model"],
        options=description["options"],
        model=model,
        metadata=metadata,
        sha256=description["sha256"],
    )


def load_weights(directory: str | os.PathLike[str]) -> tuple[Model, Tree]:
    """Read a weights directory.

    Returns:
      The model, and its variables as float32 arrays on the default device.

    Raises:
      InputError: not a weights directory, a damaged file (named), or parameters that are not those
        of the model that model.json names (all listed).
    """
    return open_weights(directory).load()


def load_metadata(directory: str | os.PathLike[str]) -> Metadata:
    """Read preprocessing, class names, source and output of a weights directory.

    Raises:
      InputError: not a weights directory, or its model.json is damaged.
    """
    return open_weights(directory).metadata


def drop_strangers(directory: Path) -> None:
    """Remove files that model.json does not list, from a copy made while its source was written."""
    path = directory / DESCRIPTION
    if path.is_file():
        listed = {DESCRIPTION, *read_description(directory)["sha256"]}
        for name in {*_files(directory)} - listed:
            (directory / name).unlink()


def alone() -> ocp.options.MultiprocessingOptions:
    """Let Orbax wait for no other process of `jax.distributed`."""
    index = jax.process_index()
    return ocp.options.MultiprocessingOptions(primary_host=index, active_processes={index})


def _files(directory: Path) -> Iterator[str]:
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            yield path.relative_to(directory).as_posix()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
