"""Several processes that train together, by JAX's distributed runtime."""

import contextlib
import dataclasses
import hashlib
import json
import socket
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from flaxmobile.compat import is_in_cluster
from flaxmobile.errors import InputError, first_line
from flaxmobile.versions import installed_versions
from train.data.pipeline import Share
from train.peers import leave, watching

_HEARTBEAT = 30
"""Seconds without a sign of life after which a process counts as dead."""

_JOINING = 120
"""Seconds to wait for the other processes at the start."""

_LONGEST = 2**16
"""Bytes of the buffer in which the first process broadcasts a value."""


@dataclasses.dataclass(frozen=True)
class HostSettings:
    """Flags about the processes of a run."""

    coordinator: str | None = None
    """HOST:PORT of the first of several processes that train together, one per host. On Cloud TPU
    pods, Slurm and Open MPI it is found without flags."""
    process_count: int | None = None
    """Number of these processes."""
    process_index: int | None = None
    """Which of them this one is, from 0."""

    def check_hosts(self) -> None:
        """Raise InputError unless all three flags are given, or none."""
        given = (self.coordinator, self.process_count, self.process_index)
        if given == (None, None, None):
            return
        if None in given or self.process_count is None or self.process_index is None:
            raise InputError("--coordinator, --process-count and --process-index go together")
        if not 0 <= self.process_index < self.process_count:
            raise InputError(
                f"--process-index is {self.process_index}; accepted: 0 to --process-count - 1"
            )
        if not str(self.coordinator).rpartition(":")[2].isdigit():
            raise InputError(f"--coordinator is {self.coordinator}; accepted: HOST:PORT")


@contextlib.contextmanager
def joined(settings: HostSettings, prog: str) -> Iterator[None]:
    """Join `jax.distributed` where this process is one of several, and leave it at the end.

    If one of them ends, so does this process: with one line and status 1.

    Raises:
      InputError: the others cannot be reached.
    """
    if settings.coordinator is None and not is_in_cluster():
        yield
        return
    try:
        jax.distributed.initialize(
            settings.coordinator,
            settings.process_count,
            settings.process_index,
            initialization_timeout=_JOINING,
            heartbeat_timeout_seconds=_HEARTBEAT,
        )
    except (RuntimeError, ValueError) as error:
        raise InputError(f"the other processes cannot be reached: {first_line(error)}") from error
    if jax.process_count() == 1:
        yield
        return
    lost = (
        f"{prog}: error: another process of the run has ended: start all of them again with "
        "--resume"
    )
    names = [str(settings.coordinator).rpartition(":")[0], first_says(socket.gethostname())]
    try:
        with watching(jax.process_index(), jax.process_count(), names, first_says, lost):
            yield
        jax.distributed.shutdown()
    except InputError as error:
        leave(f"{prog}: error: {error}")
    except jax.errors.JaxRuntimeError as error:
        # A collective operation that one of them does not take part in any more.
        leave(f"{lost} ({first_line(error)[:200]})")


def share() -> Share:
    """Return which rows of each batch this process reads."""
    return Share(jax.process_index(), jax.process_count())


def is_first() -> bool:
    """Tell whether this process writes what is written once."""
    return jax.process_index() == 0


def first_says(value: Any) -> Any:
    """Return the first process's value (of JSON) in all of them."""
    if jax.process_count() == 1:
        return value
    text = np.zeros(_LONGEST, np.uint8)
    encoded = np.frombuffer(json.dumps(value).encode(), np.uint8)
    text[: len(encoded)] = encoded
    received = np.asarray(multihost_utils.broadcast_one_to_all(text))
    return json.loads(received.tobytes().rstrip(b"\0"))


def first_has(arrays: Any) -> Any:
    """Broadcast the first process's tree of arrays; the others pass one of the same shapes."""
    return multihost_utils.broadcast_one_to_all(arrays)


def wait_for_all() -> None:
    """Return once all processes are here."""
    first_says(None)


def check_same(settings: HostSettings) -> None:
    """Raise InputError if another process has other settings or another version.

    --data-dir and --workers may differ between hosts.
    """
    if jax.process_count() == 1:
        return
    own = ("process_index", "data_dir", "workers")
    common = {name: v for name, v in dataclasses.asdict(settings).items() if name not in own}
    facts = json.dumps([common, installed_versions(("flaxmobile", "jax", "flax"))])
    digest = np.frombuffer(hashlib.sha256(facts.encode()).digest(), np.uint8)
    digests = np.asarray(multihost_utils.process_allgather(digest))
    different = np.flatnonzero((digests != digests[0]).any(1)).tolist()
    if different:
        raise InputError(
            f"processes {', '.join(map(str, different))} have other settings or another version of "
            "flaxmobile, jax or flax than process 0"
        )


def gather(columns: dict[str, Any], batches: int) -> dict[str, Any]:
    """Put the rows that all processes have read of each batch into the order of the data.

    Args:
      columns: arrays [batches · rows, …] of this process, or dictionaries of them.
      batches: number of batches.
    """
    if jax.process_count() == 1:
        return columns

    def order(column: np.ndarray) -> np.ndarray:
        parts = np.asarray(multihost_utils.process_allgather(column))
        count = parts.shape[0]
        split = parts.reshape(count, batches, -1, *column.shape[1:])
        return np.concatenate(np.concatenate(split.swapaxes(0, 1)))

    return {name: jax.tree.map(order, column) for name, column in columns.items()}


class Agreement:
    """A decision that all processes take at the same step: to stop, because one has a signal."""

    def __init__(self) -> None:
        """Begin without a vote."""
        self._vote: Any = None
        if jax.process_count() > 1:
            devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
            mesh = Mesh(np.asarray(devices), ("devices",), axis_types=(AxisType.Auto,))
            self._sharded = NamedSharding(mesh, PartitionSpec("devices"))
            self._any = jax.jit(
                lambda votes: votes.max(), out_shardings=NamedSharding(mesh, PartitionSpec())
            )

    def reached(self, vote: bool) -> bool:
        """Tell whether any process voted for it at the call before; alone, whether this one does.

        The result of a vote is read at the next call, so that no step waits for it.
        """
        if jax.process_count() == 1:
            return vote
        before, votes = self._vote, np.full(jax.local_device_count(), vote, np.int32)
        self._vote = self._any(jax.make_array_from_process_local_data(self._sharded, votes))
        return before is not None and bool(before)
