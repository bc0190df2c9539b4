"""From records to batches of pixels, read by Grain in threads or worker processes."""

import dataclasses
import sys
from collections.abc import Generator
from typing import Any, NamedTuple, TypedDict, cast

import grain
import numpy as np

from flaxmobile.errors import InputError
from flaxmobile.images import UnreadableImageError
from train.data.examples import EvalReader, Example, TrainReader
from train.data.records import Dataset, Source
from train.data.workers import read_ahead


class Share(NamedTuple):
    """Rows of a batch that a process reads: one of equal parts."""

    process: int = 0
    processes: int = 1


WHOLE = Share()


class Batch(TypedDict):
    """Labelled images of one step.

    Attributes:
      image: uint8 [n, h, w, 3], not yet normalized.
      label: [n, …] as the reader gives it: an array, or a dictionary of arrays.
      weight: float32 [n]; 0 for padding after the end of the split and for an unreadable image.
      unreadable: int32 [n], index of the record that could not be read in this place, otherwise -1.
    """

    image: np.ndarray
    label: Any
    weight: np.ndarray
    unreadable: np.ndarray


Batches = Generator[Batch, None, None]
"""Batches; `close()` (or `contextlib.closing`) ends the readers' threads or processes."""


def train_batches(
    dataset: Dataset,
    *,
    reader: TrainReader,
    batch_size: int,
    seed: int,
    start: int = 0,
    workers: int = 0,
    skip_unreadable: bool = False,
    repeats: int = 1,
    share: Share = WHOLE,
) -> Batches:
    """Read augmented training batches without end, reshuffled in each epoch.

    Batch k depends only on the data, the seed, batch_size and k, not on the number of workers.
    (Pixels differ by 1 of 255 at most if `random_resized_crop` finds cykooz_resizer.) One epoch
    runs into the next, so that no record is left out.

    Args:
      dataset: its training split is read.
      reader: reads and augments a record.
      batch_size: images in a batch.
      seed: decides the order and the augmentation, 0 to 2³² - 1.
      start: number of the first batch.
      workers: processes that read; 0 for threads of this process.
      skip_unreadable: take the next readable record instead of an unreadable one.
      repeats: variants of each record, which follow each other (repeated augmentation).
      share: read only the rows of each batch that are this process's.

    Raises:
      InputError: while iterating, a file that cannot be read (named).
    """
    read = _TrainReader(dataset, reader, skip_unreadable)
    records = grain.MapDataset.range(len(dataset.train)).seed(seed).shuffle().repeat()
    if repeats > 1:
        places = grain.MapDataset.range(sys.maxsize).seed(seed)
        records = places.map(_Repeated(records, repeats))
    examples = _rows(records.random_map(read), batch_size, share)
    batches = examples.batch(batch_size // share.processes, drop_remainder=True)
    return _batches(batches[start:], workers)


def eval_batches(
    source: Source,
    *,
    reader: EvalReader,
    batch_size: int,
    workers: int = 0,
    skip_unreadable: bool = False,
    share: Share = WHOLE,
) -> Batches:
    """Read each record once, in order, in batches of equal shape.

    Arguments and errors are those of `train_batches`; with skip_unreadable, an unreadable image has
    weight 0, like the padding of the last batch.
    """
    read = _EvalReader(source, reader, skip_unreadable)
    count = -(-len(source) // batch_size)
    examples = _rows(grain.MapDataset.range(count * batch_size).map(read), batch_size, share)
    batches = examples.batch(batch_size // share.processes)
    return _batches(batches, min(workers, count))


def _batches(batches: Any, workers: int) -> Batches:
    return cast(Batches, read_ahead(batches, workers))


def _rows(examples: Any, batch_size: int, share: Share) -> Any:
    """Select a process's rows of each batch."""
    if share.processes == 1:
        return examples
    pick = _Pick(examples, batch_size, share)
    return grain.MapDataset.range(len(examples) // share.processes).map(pick)


@dataclasses.dataclass(frozen=True)
class _Pick:
    """Map an index into a process's shard to the example."""

    examples: Any
    batch_size: int
    share: Share

    def __call__(self, place: int) -> Batch:
        rows = self.batch_size // self.share.processes
        batch, row = divmod(place, rows)
        return cast(Batch, self.examples[batch * self.batch_size + self.share.process * rows + row])


@dataclasses.dataclass(frozen=True)
class _Repeated:
    """Map a place to a record, so that several places in a row have the same one."""

    records: Any
    repeats: int

    def __call__(self, place: int) -> int:
        return self.records[place // self.repeats]


@dataclasses.dataclass(frozen=True)
class _TrainReader:
    """Read and augment the first readable record from an index on."""

    dataset: Dataset
    reader: TrainReader
    skip_unreadable: bool

    def __call__(self, index: int, rng: np.random.Generator) -> Batch:
        source = self.dataset.train
        for tried in range(len(source)):
            try:
                example = self.reader(source[(index + tried) % len(source)], rng)
            except UnreadableImageError:
                if not self.skip_unreadable:
                    raise
            else:
                return _row(example, 1, index if tried else -1)
        raise InputError(f"{self.dataset.name}: none of the {len(source)} images can be read")


@dataclasses.dataclass(frozen=True)
class _EvalReader:
    """Read and prepare the record of a place in the padded split."""

    source: Source
    reader: EvalReader
    skip_unreadable: bool

    def __call__(self, place: int) -> Batch:
        if place >= len(self.source):
            return _row(self.reader.blank(), 0, -1)
        try:
            return _row(self.reader(self.source[place]), 1, -1)
        except UnreadableImageError:
            if not self.skip_unreadable:
                raise
            return _row(self.reader.blank(), 0, place)


def _row(example: Example, weight: int, unreadable: int) -> Batch:
    return Batch(
        image=example.image,
        label=example.label,
        weight=np.asarray(weight, np.float32),
        unreadable=np.asarray(unreadable, np.int32),
    )
