"""From records to batches of pixels, read by Grain in threads or worker processes."""

import dataclasses
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Generator
from multiprocessing import resource_tracker
from typing import Any, TypedDict

import grain
import numpy as np
from absl import flags
from PIL import Image

from flaxmobile.cores import usable_cores
from flaxmobile.errors import InputError, unknown
from flaxmobile.preprocessing import Preprocessing, read_image
from train.augment import augment_digit, augment_photograph
from train.datasets import Dataset, Source, UnreadableImageError

ON_BAD_IMAGE = ("error", "skip")

_THREADS = 8
"""Batches read at once, each in a thread, where there are no worker processes."""

_CORES_FOR_THREADS = 2
"""On so many cores threads read photographs faster than processes, which hand over each batch: 0.63
instead of 0.70 ms an image in batches of 32, 0.74 instead of 1.6 one by one. On many, they would
wait for Python's lock, which each needs for a fourth of the time."""

_MOST_WORKERS = 16


class Batch(TypedDict):
    """What the network learns from or is judged by in one step.

    Attributes:
      image: uint8 [n, s, s, 3], not yet normalized.
      label: int32 [n].
      weight: float32 [n], 0 where there is no image: after the end of the split, or unreadable.
      unreadable: int32 [n], index of the record that could not be read in this place, else -1.
    """

    image: np.ndarray
    label: np.ndarray
    weight: np.ndarray
    unreadable: np.ndarray


Batches = Generator[Batch, None, None]
"""Batches; `close()` (or `contextlib.closing`) ends the threads or processes that read them."""


def default_workers() -> int:
    """How many processes should read photographs on this machine; 0 for threads."""
    cores = usable_cores()
    return 0 if cores <= _CORES_FOR_THREADS else min(_MOST_WORKERS, cores)


def train_batches(
    dataset: Dataset,
    *,
    preprocessing: Preprocessing,
    batch_size: int,
    seed: int,
    start: int = 0,
    workers: int = 0,
    on_bad_image: str = "error",
    process_index: int = 0,
    process_count: int = 1,
) -> Batches:
    """Augmented training batches without end, shuffled anew in each epoch.

    Batch k depends on the data, the seed, batch_size and k alone, however it is read (and by 1 of
    255 on whether `random_resized_crop` finds cykooz_resizer); together the batches k of all
    processes hold the items from k·n to (k+1)·n of the endless stream, where n is the global batch
    size. One epoch runs into the next, so that no record is left out.

    Args:
      dataset: whose training split to read.
      preprocessing: gives the size and the interpolation.
      batch_size: of this process.
      seed: of the order and of augmentation, 0 to 2³² - 1.
      start: number of the first batch.
      workers: processes that read; 0 for threads of this process.
      on_bad_image: "error", or "skip" to take the next record that can be read instead.
      process_index, process_count: of this process among those that train together.

    Raises:
      InputError: a wrong argument; while iterating, a file that cannot be read (named).
    """
    _check(batch_size, workers, on_bad_image)
    read = _TrainReader(dataset, preprocessing, skip=on_bad_image == "skip")
    records = grain.MapDataset.range(len(dataset.train)).seed(seed).shuffle().repeat()
    items = records.random_map(read)[process_index::process_count]
    return _batches(items.batch(batch_size, drop_remainder=True)[start:], workers)


def eval_batches(
    source: Source,
    *,
    preprocessing: Preprocessing,
    batch_size: int,
    workers: int = 0,
    on_bad_image: str = "error",
    process_index: int = 0,
    process_count: int = 1,
) -> Batches:
    """Each record once, in order; all batches have the same shape, all processes as many of them.

    Arguments and errors are those of `train_batches`; with "skip", an unreadable image has weight
    0 like the padding of the last batches.
    """
    _check(batch_size, workers, on_bad_image)
    read = _EvalReader(source, preprocessing, skip=on_bad_image == "skip")
    batches = -(-len(source) // (batch_size * process_count))
    places = grain.MapDataset.range(batches * batch_size * process_count)
    items = places.map(read)[process_index::process_count]
    return _batches(items.batch(batch_size), min(workers, batches))


@dataclasses.dataclass(frozen=True)
class _TrainReader:
    """Turns an index into an augmented example."""

    dataset: Dataset
    preprocessing: Preprocessing
    skip: bool

    def __call__(self, index: int, rng: np.random.Generator) -> Batch:
        image, label, unreadable = self._read(index)
        augment = augment_digit if self.dataset.augmentation == "digits" else augment_photograph
        image = augment(image, self.preprocessing.image_size, rng, self.preprocessing.interpolation)
        return _example(np.asarray(image), label, 1, unreadable)

    def _read(self, index: int) -> tuple[Image.Image, int, int]:
        """The record, or the next that can be read and the index of the one that cannot."""
        source = self.dataset.train
        for tried in range(len(source)):
            try:
                image, label = _load(source, (index + tried) % len(source))
                return image, label, index if tried else -1
            except UnreadableImageError:
                if not self.skip:
                    raise
        raise InputError(f"{self.dataset.name}: none of the {len(source)} images can be read")


@dataclasses.dataclass(frozen=True)
class _EvalReader:
    """Turns a place in the padded split into an example."""

    source: Source
    preprocessing: Preprocessing
    skip: bool

    def __call__(self, place: int) -> Batch:
        if place >= len(self.source):
            return self._blank(-1)
        try:
            image, label = _load(self.source, place)
        except UnreadableImageError:
            if not self.skip:
                raise
            return self._blank(place)
        return _example(np.asarray(self.preprocessing.crop(image)), label, 1, -1)

    def _blank(self, unreadable: int) -> Batch:
        size = self.preprocessing.image_size
        return _example(np.zeros((size, size, 3), np.uint8), 0, 0, unreadable)


def _load(source: Source, index: int) -> tuple[Image.Image, int]:
    record = source[index]
    try:
        return read_image(record.encoded, record.name), record.label
    except InputError as error:
        raise UnreadableImageError(str(error)) from None


def _example(image: np.ndarray, label: int, weight: int, unreadable: int) -> Batch:
    return Batch(
        image=image,
        label=np.asarray(label, np.int32),
        weight=np.asarray(weight, np.float32),
        unreadable=np.asarray(unreadable, np.int32),
    )


def _check(batch_size: int, workers: int, on_bad_image: str) -> None:
    if batch_size < 1 or workers < 0:
        raise InputError(
            f"batch size {batch_size} must be at least 1, workers {workers} at least 0"
        )
    if on_bad_image not in ON_BAD_IMAGE:
        raise unknown("value of on_bad_image", on_bad_image, ON_BAD_IMAGE)


def _batches(batches: Any, workers: int) -> Batches:
    """Read a Grain dataset of batches, a few of them ahead of their use."""
    if not workers:
        threads = min(_THREADS, usable_cores())
        ahead = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
        return _iterate(batches.to_iter_dataset(ahead))
    if not flags.FLAGS.is_parsed():  # as it is in programs of absl.app alone
        flags.FLAGS.mark_as_parsed()  # Grain asks for flags of its own
    reading = batches.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
    processes = grain.MultiprocessingOptions(num_workers=workers)
    return _iterate(reading.mp_prefetch(processes, _start_worker))


def _iterate(reading: Any) -> Batches:
    iterator = iter(reading)
    batches = map(_own, iterator)
    try:
        # Workers start with the first batch and inherit what is blocked then: signals, which a
        # terminal or a scheduler sends to all processes, are for the main one.
        resource_tracker.ensure_running()  # its start would unblock them
        unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            first = next(batches)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        yield first
        yield from batches
    except RuntimeError as error:
        if "terminated unexpectedly" not in str(error):
            raise
        raise InputError(
            "a process that loads images was killed, perhaps for want of memory or of shared "
            "memory (/dev/shm): take fewer --workers, or 0"
        ) from error
    finally:
        iterator.close()


def _own(batch: Batch) -> Batch:
    """Copy what lies in the shared memory of a worker, so that this can be freed at once."""
    return Batch(**{name: np.array(values) for name, values in batch.items()})  # type: ignore[typeddict-item]


def _start_worker(index: int, count: int) -> None:
    del index, count
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Leave no worker behind when the main process is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)
