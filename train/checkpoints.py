"""Full training states on disk: the newest two and the best, written in the background."""

import dataclasses
import json
from pathlib import Path
from typing import Self

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from flaxmobile.errors import InputError, first_line
from flaxmobile.trees import PyTree, as_tuples


@dataclasses.dataclass
class Progress:
    """Position of a run: steps taken, and the best validation so far.

    Attributes:
      step: steps taken, which is also the position in the data.
      validated: the last step whose state was validated.
      best: `quality` of the best validation so far.
    """

    step: int = 0
    validated: int = 0
    best: tuple[float, float] | None = None


def quality(metrics: dict[str, float]) -> tuple[float, float]:
    """Order validation results by accuracy, then by loss. Higher is better."""
    return metrics["accuracy"], -metrics["loss"]


class Checkpoints:
    """The `checkpoints/` directory of a run.

    A checkpoint appears under the number of its step when it is complete. An incomplete one, which
    a killed run leaves, has another name and is removed at the next start.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._manager = ocp.CheckpointManager(
            directory.absolute(),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=policies.AnyPreservationPolicy(
                    [
                        policies.LatestN(n=2),
                        policies.BestN(
                            get_metric_fn=quality, n=1, keep_checkpoints_without_metrics=False
                        ),
                    ]
                ),
                cleanup_tmp_directories=True,
            ),
        )

    def save(
        self, state: PyTree, progress: Progress, metrics: dict[str, float] | None = None
    ) -> None:
        """Begin to save a state; nothing happens if its step is saved already.

        Args:
          state: pytree of host arrays.
          progress: its step names the checkpoint.
          metrics: result of the validation at this step, where there was one.

        Raises:
          InputError: this checkpoint, or the one before it, cannot be written, for example because
            the disk is full. Complete checkpoints stay.
        """
        if progress.step == self._manager.latest_step():
            return
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            progress=ocp.args.JsonSave(dataclasses.asdict(progress)),
        )
        try:
            self._manager.save(progress.step, args=items, metrics=metrics, force=True)
        except Exception as error:
            raise self._not_saved(error) from error

    def wait(self) -> None:
        """Return when everything is on disk; raises as `save` does."""
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._not_saved(error) from error

    def restore(self, like: PyTree) -> tuple[PyTree, Progress] | None:
        """Read the newest (state, progress); None if there is no checkpoint yet.

        Args:
          like: a state, or its shapes, of the same structure and dtypes.

        Raises:
          InputError: the checkpoint is damaged, or belongs to another network.
        """
        step = self._manager.latest_step()
        if step is None:
            return None
        target = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), like)
        items = ocp.args.Composite(
            state=ocp.args.StandardRestore(target), progress=ocp.args.JsonRestore()
        )
        try:
            restored = self._manager.restore(step, args=items)
            jax.tree.map(_check_same, target, restored.state)  # Orbax accepts other shapes
            progress = Progress(**{k: as_tuples(v) for k, v in restored.progress.items()})
        except (ValueError, KeyError, TypeError, OSError, json.JSONDecodeError) as error:
            raise InputError(
                f"the checkpoint {self.directory / str(step)} is damaged or of another network "
                f"({first_line(error)}); remove it to continue from the one before"
            ) from error
        return restored.state, progress

    def list_steps(self) -> str:
        """Return the steps of the complete checkpoints as text."""
        return ", ".join(map(str, sorted(self._manager.all_steps()))) or "none yet"

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


def _check_same(expected: np.ndarray, found: np.ndarray) -> None:
    if (expected.shape, expected.dtype) != (found.shape, found.dtype):
        raise ValueError(
            f"{found.dtype}{list(found.shape)} is not {expected.dtype}{list(expected.shape)}"
        )
