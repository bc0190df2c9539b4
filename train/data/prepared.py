"""Data sets of TFDS, prepared and read from ArrayRecord or TFRecord files without TensorFlow."""

import contextlib
import logging
import re
import socket
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import tensorflow_datasets as tfds

from flaxmobile.errors import InputError, nearest
from train.data.holdout import DEFAULT_SHARE
from train.data.records import Selection
from train.data.tfrecord import Shard, TfRecords

_FORMAT = "array_record"

_CANNOT_PREPARE = (
    OSError,  # no network, no space, no permission
    AssertionError,  # files that the user must fetch are not there
    tfds.download.DownloadError,
    tfds.download.download_manager.NonMatchingChecksumError,
    tfds.download.extractor.ExtractError,
)


def prepared_builder(
    name: str, data_dir: str | None, check: Callable[[Any], object], others: Sequence[str]
) -> Any:
    """Return a data set's builder; files that are missing are downloaded and written first.

    Args:
      name: of TFDS.
      data_dir: directory of TFDS's data; None: TFDS's own.
      check: raises InputError for a builder whose features do not suit the task.
      others: names that are accepted beside those of TFDS, for messages.

    Raises:
      InputError: an unknown name, or files that cannot be prepared or read.
    """
    with _without_warnings():
        builder = _builder(name, data_dir, others)
        check(builder)  # before a download of perhaps many gigabytes
        if not builder.is_prepared():
            _prepare(name, builder)
            builder = _builder(name, data_dir, others)
    if not builder.is_prepared():
        raise InputError(f"{builder.data_dir} is an incomplete TFDS dataset: remove it")
    if not _formats(builder) & {_FORMAT, "tfrecord"}:
        raise InputError(
            f"{builder.data_dir} is prepared as {builder.info.file_format.value}; convert it: "
            f"tfds convert_format --dataset_dir={builder.data_dir} --out_file_format={_FORMAT} "
            "--out_path=DIR, and use --data-dir"
        )
    return builder


def _builder(name: str, data_dir: str | None, others: Sequence[str]) -> Any:
    try:
        return tfds.builder(name, data_dir=data_dir)
    except (OSError, ValueError, AssertionError, TypeError, ImportError) as error:
        found = tfds.list_builders(with_community_datasets=False)
        if re.split("[/:]", name)[0] in found:
            problem = f"TFDS dataset {name!r} cannot be opened: {_one_line(error)}"
            raise InputError(problem) from error
        raise InputError(
            f"unknown dataset {name!r}{nearest(name, [*others, *found])}; accepted: "
            f"{', '.join(others)}, or one of TFDS ({len(found)} names: tfds.list_builders())"
        ) from None


def choose_splits(builder: Any, selection: Selection) -> tuple[dict[str, str], tuple[str, ...]]:
    """Say which splits of a data set are used for training, validation and test.

    Without a validation split, the last tenth of the training split is used for it, or what
    `selection.val_split` says.

    Returns:
      "train", "validation" and perhaps "test" -> TFDS's expression, and lines for the user.

    Raises:
      InputError: nothing to train on or to hold out.
    """
    names = tuple(builder.info.splits)
    splits = {
        **{name: name for name in ("train", "validation", "test") if name in names},
        **({"validation": "val"} if "val" in names else {}),
        **selection.splits,
    }
    if "train" not in splits:
        raise InputError(f"TFDS dataset {builder.name!r} has no train split but {', '.join(names)}")
    if "validation" not in splits:
        whole = splits["train"]
        if "[" in whole:
            raise InputError(
                f"--splits takes {whole} to train on, and {builder.name} has no validation "
                "split: add validation=NAME"
            )
        percent = round(100 * (1 - (selection.val_split or DEFAULT_SHARE)))
        splits |= {"train": f"{whole}[:{percent}%]", "validation": f"{whole}[{percent}%:]"}
        note = f"no validation split: {splits['validation']} stands in for it (--val-split)"
        return splits, (note,)
    if selection.val_split is not None:
        raise InputError(
            f"--val-split {selection.val_split} holds out training images, but {builder.name} has "
            f"a validation split, {splits['validation']}: leave the flag out"
        )
    return splits, ()


class Examples:
    """Examples of a split by index; their images stay encoded. They can be pickled.

    Attributes:
      name: data set and split, for messages.
    """

    def __init__(self, builder: Any, split: str, features: Sequence[str]) -> None:
        """Open a split, or a slice of one such as "train[90%:]", and read some of its features.

        Raises:
          InputError: no such split, or it is empty.
        """
        self.name = f"{builder.name}/{split}"
        try:
            count = builder.info.splits[split].num_examples
        except (ValueError, KeyError) as error:
            names = ", ".join(builder.info.splits)
            raise InputError(
                f"--splits: {split!r} is no split of {builder.name} ({names}): {_one_line(error)}"
            ) from None
        if not count:
            raise InputError(f"{self.name} has no images")
        # Only these features are parsed, and the builder is not pickled with them.
        chosen = {key: builder.info.features[key] for key in features}
        self._features = tfds.features.FeaturesDict(chosen)
        self._encoded = [key for key in features if is_image(chosen[key])]
        self._records = _open_records(builder, split)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Parse an example; images are the bytes of their files."""
        skip = {key: tfds.decode.SkipDecoding() for key in self._encoded}
        return self._features.deserialize_example_np(self._records[index], decoders=skip)

    def name_of(self, index: int) -> str:
        """Name an example, for messages."""
        return f"{self.name}/{index}"


def is_image(feature: Any) -> bool:
    """Tell whether a feature is an image whose file PIL can read."""
    return isinstance(feature, tfds.features.Image) and feature.np_dtype != np.float32


def features_of(builder: Any) -> dict[str, Any]:
    """Return the features of a data set's examples by name."""
    top = builder.info.features
    return dict(top.items()) if isinstance(top, tfds.features.FeaturesDict) else {}


def check_features(builder: Any, fine: bool, kind: str, needed: str) -> None:
    """Raise InputError unless the features are those that a task needs."""
    if not fine:
        raise InputError(
            f"TFDS dataset {builder.name!r} is not one of {kind}: it needs the features {needed} "
            f"and has {', '.join(features_of(builder)) or type(builder.info.features)}"
        )


def _open_records(builder: Any, split: str) -> Any:
    """Open the serialized records of a split by index."""
    if _FORMAT in _formats(builder):
        return builder.as_data_source(split, file_format=_FORMAT).data_source
    parts = builder.info.splits[split].file_instructions
    return TfRecords(Shard(Path(part.filename), part.skip, part.take) for part in parts)


def _formats(builder: Any) -> set[str]:
    return {found.value for found in builder.info.available_file_formats()}


def _prepare(name: str, builder: Any) -> None:
    """Write the files of the data set; its directory appears complete or not at all."""
    try:
        _check_network(builder)
        builder.download_and_prepare(file_format=_FORMAT)
    except ImportError as error:
        *_, missing = str(error).splitlines() or [repr(error)]
        raise InputError(
            f"TFDS dataset {name!r} cannot be prepared: {missing}; TFDS needs it once, for this "
            "(TensorFlow: pip install tensorflow-cpu)"
        ) from error
    except _CANNOT_PREPARE as error:
        if builder.is_prepared():  # by another process that was faster
            return
        raise InputError(
            f"TFDS dataset {name!r} is not in {builder.data_dir} and cannot be prepared there: "
            f"{_one_line(error)}; where it is prepared already, give --data-dir"
        ) from error


def _check_network(builder: Any) -> None:
    """Raise OSError if no host of the files can be resolved; TFDS would retry for minutes."""
    hosts = {urlsplit(url).hostname for url in builder.url_infos or ()}
    if not hosts or builder.MANUAL_DOWNLOAD_INSTRUCTIONS or urllib.request.getproxies():
        return
    for host in hosts:
        with contextlib.suppress(OSError):
            socket.getaddrinfo(host, None)
            return
    raise OSError(f"no network, {', '.join(sorted(map(str, hosts)))} cannot be found")


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return re.sub(r"\s[^.]*:$", "", text)  # a list of names like it, which may be empty


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Keep TFDS from warning that the data set it is about to prepare is missing."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
