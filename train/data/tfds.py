"""Data sets of TFDS, read from ArrayRecord or TFRecord files without TensorFlow."""

import contextlib
import logging
import re
import socket
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import tensorflow_datasets as tfds

from flaxmobile.errors import InputError, nearest
from train.data.augment import augment_photograph
from train.data.holdout import DEFAULT_SHARE
from train.data.records import Dataset, Record, Selection
from train.data.tfrecord import Shard, TfRecords

_FORMAT = "array_record"

_CANNOT_PREPARE = (
    OSError,  # no network, no space, no permission
    AssertionError,  # files that the user must fetch are not there
    tfds.download.DownloadError,
    tfds.download.download_manager.NonMatchingChecksumError,
    tfds.download.extractor.ExtractError,
)


def open_tfds(name: str, data_dir: str | None, selection: Selection) -> Dataset:
    """Open a TFDS data set of labelled images, see `train.data.open_dataset`.

    Without a validation split, the last tenth of the training split is used for it, or what
    `selection.val_split` says.
    """
    builder = prepared_builder(name, data_dir)
    names = tuple(builder.info.splits)
    splits = {
        **{name: name for name in ("train", "validation", "test") if name in names},
        **({"validation": "val"} if "val" in names else {}),
        **selection.splits,
    }
    if "train" not in splits:
        raise InputError(f"TFDS dataset {name!r} has no train split but {', '.join(names)}")
    notes: tuple[str, ...] = ()
    if "validation" not in splits:
        if "[" in splits["train"]:
            raise InputError(
                f"--splits takes {splits['train']} to train on, and {name} has no validation "
                "split: add validation=NAME"
            )
        percent = round(100 * (1 - (selection.val_split or DEFAULT_SHARE)))
        whole = splits["train"]
        splits |= {"train": f"{whole}[:{percent}%]", "validation": f"{whole}[{percent}%:]"}
        notes += (f"no validation split: {splits['validation']} stands in for it (--val-split)",)
    elif selection.val_split is not None:
        raise InputError(
            f"--val-split {selection.val_split} holds out training images, but {name} has a "
            f"validation split, {splits['validation']}: leave the flag out"
        )
    sources = {split: TfdsSource(builder, splits[split]) for split in splits}
    test = sources.get("test")
    if test and not test.is_labelled():
        notes += (f"{test.name} has no labels and is not evaluated",)
        test = None
    return Dataset(
        name=name,
        class_names=class_names(builder),
        train=sources["train"],
        validation=sources["validation"],
        test=test,
        augment=augment_photograph,
        notes=notes,
    )


class TfdsSource:
    """A split of a prepared data set; its images stay encoded."""

    def __init__(self, builder: Any, split: str) -> None:
        """Open a split, or a slice of one such as "train[90%:]"; InputError if it is empty."""
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
        # Only these two features are parsed, and the builder is not pickled with the source.
        features = {key: builder.info.features[key] for key in ("image", "label")}
        self._features = tfds.features.FeaturesDict(features)
        self._records = _open_records(builder, split)
        self._classes = features["label"].num_classes

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Record:
        """Read one record; InputError if its label is outside the classes."""
        encoded, label = self._read(index)
        name = f"{self.name}/{index}"
        if not 0 <= label < self._classes:
            raise InputError(f"{name} has label {label}; accepted: 0 to {self._classes - 1}")
        return Record(encoded, label, name)

    def labels(self) -> np.ndarray:
        """Read the label of each record."""
        return np.array([self._read(index)[1] for index in range(len(self))])

    def listing(self) -> Iterable[str]:
        """Name the split: its version of TFDS fixes the records."""
        return (self.name,)

    def is_labelled(self) -> bool:
        """Tell whether the split has labels; otherwise TFDS has -1 in every record."""
        return self._read(0)[1] != -1

    def _read(self, index: int) -> tuple[bytes, int]:
        skip = {"image": tfds.decode.SkipDecoding()}
        example = self._features.deserialize_example_np(self._records[index], decoders=skip)
        return example["image"], int(example["label"])


def _open_records(builder: Any, split: str) -> Any:
    """Open the serialized records of a split by index."""
    if _FORMAT in _formats(builder):
        return builder.as_data_source(split, file_format=_FORMAT).data_source
    parts = builder.info.splits[split].file_instructions
    return TfRecords(Shard(Path(part.filename), part.skip, part.take) for part in parts)


def _formats(builder: Any) -> set[str]:
    return {found.value for found in builder.info.available_file_formats()}


def prepared_builder(name: str, data_dir: str | None) -> Any:
    """Return a data set's builder; files that are missing are downloaded and written first.

    Raises:
      InputError: an unknown name, or files that cannot be prepared or read.
    """
    with _without_warnings():
        builder = _builder(name, data_dir)
        class_names(builder)  # before a download of perhaps many gigabytes
        if not builder.is_prepared():
            _prepare(name, builder)
            builder = _builder(name, data_dir)
    if not builder.is_prepared():
        raise InputError(f"{builder.data_dir} is an incomplete TFDS dataset: remove it")
    if not _formats(builder) & {_FORMAT, "tfrecord"}:
        raise InputError(
            f"{builder.data_dir} is prepared as {builder.info.file_format.value}; convert it: "
            f"tfds convert_format --dataset_dir={builder.data_dir} --out_file_format={_FORMAT} "
            "--out_path=DIR, and use --data-dir"
        )
    return builder


def _builder(name: str, data_dir: str | None) -> Any:
    try:
        return tfds.builder(name, data_dir=data_dir)
    except (OSError, ValueError, AssertionError, TypeError, ImportError) as error:
        found = tfds.list_builders(with_community_datasets=False)
        if re.split("[/:]", name)[0] in found:
            problem = f"TFDS dataset {name!r} cannot be opened: {_one_line(error)}"
            raise InputError(problem) from error
        names = ["digits", *found]
        raise InputError(
            f"unknown dataset {name!r}{nearest(name, names)}; accepted: digits, "
            f"folder:PATH, idx:DIR, or one of TFDS ({len(found)} names: tfds.list_builders())"
        ) from None


def class_names(builder: Any) -> tuple[str, ...]:
    """Return the names of the classes; InputError unless these are labelled images."""
    top = builder.info.features
    features = dict(top.items()) if isinstance(top, tfds.features.FeaturesDict) else {}
    image, label = features.get("image"), features.get("label")
    images = isinstance(image, tfds.features.Image) and image.np_dtype != np.float32
    if not images or not isinstance(label, tfds.features.ClassLabel):
        raise InputError(
            f"TFDS dataset {builder.name!r} is not one of classified images: it needs the features "
            f"image (Image) and label (ClassLabel) and has {', '.join(features) or type(top)}"
        )
    return tuple(label.names)


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
            f"{_one_line(error)}"
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
    return " ".join(str(error).split())


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
