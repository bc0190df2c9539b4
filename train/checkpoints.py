"""Full training states on disk: the newest ones and the best, written in the background."""

import dataclasses
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from flaxmobile.errors import InputError, first_line
from flaxmobile.trees import PyTree, as_tuples, named_leaves
from flaxmobile.weights import alone
from train import hosts


@dataclasses.dataclass
class Progress:
    """Position of a run: steps taken, and the best validation so far.

    Attributes:
      step: steps taken, which is also the position in the data.
      validated: the last step whose state was validated.
      best: quality of the best validation so far; higher is better.
      best_step: its step.
    """

    step: int = 0
    validated: int = 0
    best: tuple[float, float] | None = None
    best_step: int | None = None


class Checkpoints:
    """The `checkpoints/` directory of a run.

    A checkpoint appears under the number of its step when it is complete. An incomplete one, which
    a killed run leaves, has another name and is removed at the next start.
    """

    def __init__(self, directory: Path, keep: int = 2, *, own: bool = False) -> None:
        """Open or make the directory, to keep the newest `keep` states and that of the best.

        With `own` each process has a directory of its own, and the first one alone saves.
        """
        self.directory = directory
        self._renames, self._saves = own or hosts.is_first(), not own or hosts.is_first()
        self._best = _KeepBest()
        newest = policies.LatestN(n=keep)
        directory.mkdir(exist_ok=True)  # Orbax makes none that processes do not share
        self._manager = ocp.CheckpointManager(
            directory.absolute(),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=policies.AnyPreservationPolicy([newest, self._best]),
                cleanup_tmp_directories=True,
                create=False,
                multiprocessing_options=alone() if own else ocp.options.MultiprocessingOptions(),
            ),
        )

    def save(self, state: PyTree, progress: Progress) -> None:
        """Begin to save a state; nothing happens if its step is saved already.

        Args:
          state: pytree of host arrays.
          progress: its step names the checkpoint.

        Raises:
          InputError: this checkpoint, or the one before it, cannot be written, for example because
            the disk is full. Complete checkpoints stay.
        """
        if not self._saves or progress.step == self._manager.latest_step():
            return
        self._best.step = progress.best_step
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            progress=ocp.args.JsonSave(
                {**dataclasses.asdict(progress), "crc32": _checksums(state)}
            ),
        )
        try:
            self._manager.save(progress.step, args=items, force=True)
        except Exception as error:
            raise self._not_saved(error) from error

    def wait(self) -> None:
        """Return when everything is on disk; raises as `save` does."""
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._not_saved(error) from error

    def restore(self, like: PyTree) -> tuple[PyTree, Progress, list[str]] | None:
        """Read the newest state that is not damaged; None if there is no checkpoint yet.

        Damaged ones that are newer get the name STEP.damaged.

        Args:
          like: a state, or its shapes, of the same structure and dtypes.

        Returns:
          The state, its progress, and a sentence about each damaged checkpoint.

        Raises:
          InputError: all checkpoints are damaged, or of another network.
        """
        damaged: dict[int, str] = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                state, progress = self._restore(step, like)
            except Exception as error:  # whatever Orbax's stores raise for whatever damage
                damaged[step] = first_line(error)
                continue
            hosts.wait_for_all()  # they read the damaged ones too
            for bad in damaged if self._renames else ():
                path = self.directory / str(bad)
                path.rename(path.with_suffix(".damaged"))
            hosts.wait_for_all()
            self._manager.reload()
            notes = [
                f"the checkpoint of step {bad} is damaged ({why}): continuing from step {step}"
                for bad, why in damaged.items()
            ]
            return state, progress, notes
        if damaged:
            step, why = next(iter(damaged.items()))
            raise InputError(
                f"the checkpoint {self.directory / str(step)} is damaged or of another network "
                f"({why}), and there is no other: begin again in a new --output"
            )
        return None

    def list_steps(self) -> str:
        """Return the steps of the complete checkpoints as text."""
        return ", ".join(map(str, sorted(self._manager.all_steps()))) or "none yet"

    def _restore(self, step: int, like: PyTree) -> tuple[PyTree, Progress]:
        target = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), like)
        items = ocp.args.Composite(
            state=ocp.args.StandardRestore(target), progress=ocp.args.JsonRestore()
        )
        restored = self._manager.restore(step, args=items)
        jax.tree.map(_check_same, target, restored.state)  # Orbax accepts other shapes
        saved = restored.progress.pop("crc32", None)  # runs of version 0.1 have none
        for name, checksum in _checksums(restored.state).items() if saved else ():
            if saved[name] != checksum:
                raise ValueError(f"{name} has another checksum than when it was saved")
        values = {name: as_tuples(value) for name, value in restored.progress.items()}
        return restored.state, Progress(**values)

    def _not_saved(self, error: Exception) -> InputError:
        return InputError(
            f"a checkpoint could not be saved in {self.directory} ({first_line(error)}); complete "
            f"ones: steps {self.list_steps()}. Make room or fix the permissions, then continue "
            "with --resume"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Wait, and close; an error of the body is not hidden by one of writing."""
        try:
            self.wait()
        except InputError:
            if kind is None:
                raise
        finally:
            self._manager.close()


class _KeepBest(policies.PreservationPolicy):
    """Keep the checkpoint of the best validation."""

    step: int | None = None

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        return [checkpoint.step == self.step for checkpoint in checkpoints]


def _checksums(state: PyTree) -> dict[str, int]:
    """Compute the CRC-32 of each array: Orbax's formats have none that is checked."""
    return {
        name: zlib.crc32(np.asarray(leaf).tobytes()) for name, leaf in named_leaves(state).items()
    }


def _check_same(expected: np.ndarray, found: np.ndarray) -> None:
    if (expected.shape, expected.dtype) != (found.shape, found.dtype):
        raise ValueError(
            f"{found.dtype}{list(found.shape)} is not {expected.dtype}{list(expected.shape)}"
        )
