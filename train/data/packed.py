"""Packed data sets: a folder of ArrayRecord files, whose records are encoded images.

It holds `packed.json` (the classes, how the images are treated, and for each split the digest of
its content and its shards with their numbers of images and bytes), the shards, and for each split
the labels in a NumPy file.
"""

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grain
import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter

from flaxmobile.errors import InputError, first_line
from flaxmobile.images import UnreadableImageError
from flaxmobile.preprocessing import Preprocessing
from train.data.augment import augment_digit, augment_photograph
from train.data.records import Augment, Dataset, Record

INDEX = "packed.json"

_VERSION = 1

_SHARD_BYTES = 1 << 30
"""Content of a shard. A reader holds all of them open."""

_OPTIONS = "group_size:1,uncompressed"
"""A group is read as a whole, and encoded images cannot be compressed."""

_AUGMENT: dict[str, Augment] = {"photographs": augment_photograph, "digits": augment_digit}


class Shard(NamedTuple):
    """A file of records.

    Attributes:
      filename, examples_in_shard: read by ArrayRecordDataSource, as are skip and take.
      size: of the file in bytes.
    """

    filename: str
    examples_in_shard: int
    size: int
    skip: int = 0

    @property
    def take(self) -> int:
        """Number of records to read."""
        return self.examples_in_shard


@dataclasses.dataclass(frozen=True, eq=False)
class PackedSource:
    """The images of a split.

    Attributes:
      name: folder and split, for messages.
      digest: of all images and labels.
      records: the encoded images.
      classes: label of each image, int32 [n], or 0 and 1 for each class, [n, classes].
    """

    name: str
    digest: str
    records: grain.sources.ArrayRecordDataSource
    classes: np.ndarray

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Record:
        name, label = f"{self.name}/{index}", self.classes[index].tolist()
        try:
            encoded = self.records[index]
        except RuntimeError as error:  # its checksum tells that a record is damaged
            raise UnreadableImageError(f"{name} cannot be read: {first_line(error)}") from None
        return Record(encoded, tuple(label) if isinstance(label, list) else label, name)

    def labels(self) -> np.ndarray:
        """Return the label of each image."""
        return self.classes

    def listing(self) -> Iterable[str]:
        """Name the content by its digest."""
        return (self.digest,)


def open_packed(name: str, path: Path) -> Dataset:
    """Open a packed data set, see `train.data.open_dataset`."""
    index = _read_index(path)
    count = len(index["class_names"])
    sources = {
        split: _open_split(path, split, entry, count) for split, entry in index["splits"].items()
    }
    preset = index["preset"]
    return Dataset(
        name=name,
        class_names=tuple(index["class_names"]),
        train=sources["train"],
        validation=sources["validation"],
        test=sources.get("test"),
        augment=_AUGMENT[index["images"]],
        preset=preset and Preprocessing.from_json(preset),
        workers=index["workers"],
        multi_label=index["multi_label"],
    )


def _read_index(path: Path) -> dict[str, Any]:
    try:
        index = json.loads((path / INDEX).read_text())
    except OSError:
        raise InputError(
            f"{path} has no {INDEX}: packed:DIR needs a folder that `flaxmobile pack` wrote"
        ) from None
    except ValueError as error:
        raise InputError(f"{path / INDEX} is damaged: {error}") from None
    version = index.get("version") if isinstance(index, dict) else None
    if version != _VERSION:
        raise InputError(
            f"{path / INDEX} has version {version}; accepted: {_VERSION}; pack the data anew, or "
            "install a newer flaxmobile"
        )
    return index


def _open_split(path: Path, split: str, entry: dict[str, Any], classes: int) -> PackedSource:
    shards = [Shard(str(path / name), *sizes) for name, *sizes in entry["shards"]]
    for shard in shards:
        file = Path(shard.filename)
        size = file.stat().st_size if file.is_file() else 0
        if size != shard.size:
            raise InputError(
                f"{file} has {size} bytes instead of {shard.size}: copy it again, or pack the data "
                "anew"
            )
    labels_file = path / _labels_name(split)
    try:
        labels = np.load(labels_file)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{labels_file} cannot be read: {first_line(error)}") from None
    images = sum(shard.examples_in_shard for shard in shards)
    highest = classes if labels.ndim == 1 else 2
    if len(labels) != images or not ((labels >= 0) & (labels < highest)).all():
        raise InputError(f"{labels_file} does not fit the {images} images and {classes} classes")
    records = grain.sources.ArrayRecordDataSource(shards)
    return PackedSource(f"{path}/{split}", entry["digest"], records, labels)


def write_packed(
    draft: Path, dataset: Dataset, splits: dict[str, Iterable[Record]]
) -> dict[str, int]:
    """Write a data set into a folder, and return the number of images of each split.

    Args:
      draft: the folder, which is made.
      dataset: gives the classes and how images are treated.
      splits: "train", "validation" and perhaps "test" -> its records.

    Raises:
      InputError: a split without records, or a full disk.
    """
    draft.mkdir()
    written = {split: _write_split(draft, split, splits[split]) for split in splits}
    index = {
        "version": _VERSION,
        "dataset": dataset.name,
        "class_names": dataset.class_names,
        "multi_label": dataset.multi_label,
        "images": next(kind for kind, augment in _AUGMENT.items() if augment is dataset.augment),
        "preset": dataset.preset and dataset.preset.to_json(),
        "workers": dataset.workers,
        "splits": written,
    }
    (draft / INDEX).write_text(json.dumps(index, indent=2) + "\n")
    return {split: entry["images"] for split, entry in written.items()}


def _write_split(draft: Path, split: str, records: Iterable[Record]) -> dict[str, Any]:
    labels: list[int | tuple[int, ...]] = []
    digest = hashlib.sha256()
    shards: list[tuple[str, int, int]] = []
    remaining = iter(records)
    while True:
        name = f"{split}-{len(shards):05}.array_record"
        first = len(labels)
        with _writing(draft / name) as write:
            size = 0
            for record in remaining:
                write(record.encoded)
                digest.update(record.encoded + str(record.label).encode())
                labels.append(record.label)
                size += len(record.encoded)
                if size >= _SHARD_BYTES:
                    break
        if len(labels) == first:
            (draft / name).unlink()
            break
        shards.append((name, len(labels) - first, (draft / name).stat().st_size))
    if not labels:
        raise InputError(f"the {split} split has no image that can be read")
    np.save(draft / _labels_name(split), np.array(labels, np.int32))
    return {"images": len(labels), "digest": digest.hexdigest(), "shards": shards}


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[Callable[[bytes], None]]:
    try:
        writer = ArrayRecordWriter(str(path), _OPTIONS)
        yield writer.write
        writer.close()
    except RuntimeError as error:
        raise InputError(f"{path.name} cannot be written: {first_line(error)}") from None


def _labels_name(split: str) -> str:
    return f"{split}-labels.npy"
