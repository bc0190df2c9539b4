"""Experiment trackers, fed with the lines of metrics.jsonl: `--track wandb` or `trackio`."""

import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from flaxmobile.errors import InputError, pip_install

Tracker = Literal["wandb", "trackio"]

PROJECT = "flaxmobile"


def check_tracker(name: Tracker) -> None:
    """Raise InputError if the package of a tracker is not installed."""
    if importlib.util.find_spec(name) is None:
        raise InputError(f"--track {name} needs its package: {pip_install(name)}")


class Tracking:
    """A run of the tracker, under the name of the run's directory; a resumed run continues it."""

    def __init__(self, name: Tracker, directory: Path, settings: Mapping[str, Any]) -> None:
        """Begin or continue the run.

        Args:
          name: of the package.
          directory: the directory of the run.
          settings: of the run, to be shown beside its curves.
        """
        self._module = importlib.import_module(name)
        run = directory.resolve().name
        options: dict[str, Any] = {"name": run, "config": dict(settings), "resume": "allow"}
        if name == "wandb":  # it tells runs apart by id, and writes where it is told
            options |= {"id": run, "dir": str(directory)}
        self._module.init(project=PROJECT, **options)

    def add(self, step: int, numbers: dict[str, float]) -> None:
        """Log the values of a step by name."""
        self._module.log(numbers, step=step)

    def close(self) -> None:
        """Say that the run has ended."""
        self._module.finish()
