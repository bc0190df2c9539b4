"""Full training states on disk: the newest two and the best, written in the background."""

import json
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from flaxmobile.errors import InputError

Tree = Any


def quality(metrics: dict[str, float]) -> tuple[float, float]:
    """Order validation results: by accuracy, then by loss. Higher is better."""
    return metrics["accuracy"], -metrics["loss"]


class Checkpoints:
    """The `checkpoints/` directory of a run.

    A checkpoint appears under its step's number when it is complete; what a killed run leaves
    half-written has another name and is removed at the next start.
    """

    def __init__(self, directory: Path) -> None:
        """Open or make the directory."""
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
        self, step: int, state: Tree, progress: Tree, metrics: dict[str, float] | None = None
    ) -> None:
        """Save a state of host arrays after `step` steps; returns before it is on disk.

        Args:
          step: the checkpoint's name; nothing happens if it is there already.
          state: pytree of arrays.
          progress: plain values: the position of the data, the best result so far.
          metrics: of the validation at this step, where there was one.

        Raises:
          InputError: this checkpoint, or the one before it, cannot be written (the disk is full,
            say). Those that were complete stay.
        """
        if step == self._manager.latest_step():
            return
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state), progress=ocp.args.JsonSave(progress)
        )
        try:
            self._manager.save(step, args=items, metrics=metrics, force=True)
        except Exception as error:
            raise self._not_saved(error) from error

    def wait(self) -> None:
        """Return when everything is on disk; raises as `save` does."""
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._not_saved(error) from error

    def restore(self, like: Tree) -> tuple[Tree, Tree] | None:
        """Read the newest (state, progress), or None where there is none yet.

        Args:
          like: a state of the same structure, shapes and dtypes.

        Raises:
          InputError: the checkpoint is damaged, or it is of another network.
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
            jax.tree.map(_check_same, target, restored.state)  # Orbax lets other shapes pass
        except (ValueError, KeyError, TypeError, OSError, json.JSONDecodeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(
                f"the checkpoint {self.directory / str(step)} is damaged or of another network "
                f"({reason}); remove it to continue from the one before"
            ) from error
        return restored.state, restored.progress

    @property
    def steps(self) -> list[int]:
        """Steps of the complete checkpoints."""
        return sorted(self._manager.all_steps())

    def _not_saved(self, error: Exception) -> InputError:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        whole = ", ".join(map(str, self.steps)) or "none"
        return InputError(
            f"a checkpoint could not be saved in {self.directory} ({reason}); complete ones: steps "
            f"{whole}. Make room or fix the permissions, then continue with --resume"
        )

    def __enter__(self) -> Self:
        """Use as a context, which waits for the writing at its end."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Wait, and close; an error of the body is not covered up by one of the writing."""
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
