"""Threads or worker processes that read batches ahead of their use."""

import contextlib
import errno
import multiprocessing
import multiprocessing.connection
import os
import resource
import signal
import sys
import threading
from collections.abc import Generator
from multiprocessing import resource_tracker
from typing import Any

import grain
import numpy as np
from absl import flags

from flaxmobile.cores import usable_cores
from flaxmobile.errors import InputError

_THREADS = 8
"""Threads without worker processes; each reads one batch at a time."""

_CORES_FOR_THREADS = 2
"""Most cores on which threads read photographs faster than processes, which must transfer each
batch: 0.63 instead of 0.70 ms per image in batches of 32, 0.74 instead of 1.6 one by one. On more
cores threads wait for Python's GIL, which each holds for a quarter of the time."""

_MOST_WORKERS = 16

_SHARED_MEMORY = "take fewer --workers, or 0, or more shared memory (docker run --shm-size=2g)"

_LEAKS = "ignore::UserWarning:multiprocessing.resource_tracker"
"""Filter of warnings: Python's tracker removes what a killed worker leaves in shared memory."""


def default_workers() -> int:
    """Return how many processes should read photographs on this machine; 0 for threads."""
    cores = usable_cores()
    return 0 if cores <= _CORES_FOR_THREADS else min(_MOST_WORKERS, cores)


def read_ahead(batches: Any, workers: int) -> Generator[dict[str, Any], None, None]:
    """Iterate over a Grain dataset of batches; closing the generator ends all readers.

    Args:
      batches: `grain.MapDataset` of nested dicts of arrays.
      workers: processes that read; 0 for threads of this process.

    Raises:
      InputError: a worker was killed, or there are too few file handles or too little shared
        memory for one.
    """
    if not workers:
        threads = min(_THREADS, usable_cores())
        ahead = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
        return _iterate(batches.to_iter_dataset(ahead), shared=False)
    if not flags.FLAGS.is_parsed():  # only programs of absl.app parse them
        flags.FLAGS.mark_as_parsed()  # Grain reads flags of its own
    reading = batches.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
    processes = grain.MultiprocessingOptions(num_workers=workers)
    return _iterate(reading.mp_prefetch(processes, _start_worker), shared=True)


def _iterate(reading: Any, shared: bool) -> Generator[dict[str, Any], None, None]:
    iterator = iter(reading)
    # A worker's batch lies in shared memory, which can be freed once it is copied.
    batches = map(_copy, iterator) if shared else iterator
    try:
        # Workers start with the first batch and inherit the signals that are blocked then. A
        # terminal or a scheduler sends signals to all processes; only the main one should handle
        # them.
        if _LEAKS not in sys.warnoptions:
            sys.warnoptions.append(_LEAKS)
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
            "a process that loads images was killed, perhaps for lack of memory or of shared "
            f"memory (/dev/shm): {_SHARED_MEMORY}"
        ) from error
    except OSError as error:
        if not shared:
            raise
        raise InputError(_what_workers_lack(error)) from error
    finally:
        with contextlib.suppress(AssertionError):  # of a worker that could not be started
            iterator.close()


def _what_workers_lack(error: OSError) -> str:
    if error.errno == errno.EMFILE:
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return (
            f"processes that load images need more than {most} open files: take fewer --workers, "
            "or 0, or a higher limit (ulimit -n)"
        )
    return (
        f"processes that load images cannot share memory (/dev/shm): {error.strerror}: "
        f"{_SHARED_MEMORY}"
    )


def _copy(values: Any) -> Any:
    if isinstance(values, dict):
        return {name: _copy(each) for name, each in values.items()}
    return np.array(values)


def _start_worker(index: int, count: int) -> None:
    del index, count
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Leave no worker behind when the main process is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)
