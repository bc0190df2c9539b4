"""Tasks for candidates, as their processes are given them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

PIPELINE_BATCHES = 24
"""Batches of a call of an input pipeline: many more than any pipeline prefetches."""


@dataclass(frozen=True)
class Job:
    """A task for a candidate.

    Attributes:
      candidate: a name of `flaxmobile.bench.candidates.CANDIDATES`.
      task: "inference", "train", "pipeline" or "compile" (of the training step).
      model: registered name of the network, or of a head.
      options: of `flaxmobile.tasks.build`.
      batch_size: images per call.
      image_size: side of the images in pixels.
      threads: how many it may use.
    """

    candidate: str
    task: str
    model: str
    options: dict[str, Any]
    batch_size: int
    image_size: int
    threads: int

    @property
    def images(self) -> int:
        """Number of images of a call."""
        return self.batch_size * (PIPELINE_BATCHES if self.task == "pipeline" else 1)


def expected_path(outputs: Path) -> Path:
    """Path at which a candidate saves the outputs expected of it, beside its own."""
    return outputs.with_suffix(".expected.npy")
