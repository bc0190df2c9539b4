"""What a task gives to a run: its data, readers, loss, evaluation and results.

The step, the loop and the checkpoints are the same for all tasks. A new task is an entry in
`train.task_settings.FACTS`, a class with the functions of `Task`, and an entry in
`train.setup.TASKS`.
"""

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from flaxmobile.layers import Model
from flaxmobile.preprocessing import Preprocessing
from train.config import Config
from train.data import Dataset
from train.data.examples import EvalReader, TrainReader
from train.data.records import Source
from train.losses import Criterion


class Result(Protocol):
    """Judgement of the readable images of a split."""

    @property
    def index(self) -> np.ndarray:
        """Place of each image in the split, [n]."""

    @property
    def unreadable(self) -> int:
        """Number of images that were skipped."""

    def means(self) -> dict[str, float]:
        """Return the numbers of a line of metrics.jsonl, "loss" among them."""

    def per_class(self, names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
        """Return the numbers of each class for test.json; None for what cannot be computed."""


class Task(Protocol):
    """A task that can be trained."""

    @property
    def keeps_labels(self) -> bool:
        """Whether `collect` needs the labels of all images beside their judgements."""

    def open_dataset(self, config: Config) -> Dataset:
        """Open the data that --dataset names."""

    def train_reader(
        self, config: Config, dataset: Dataset, preprocessing: Preprocessing
    ) -> TrainReader:
        """Make the reader of training images.

        Args:
          config: settings.
          dataset: the data.
          preprocessing: with the size of the training images.

        Raises:
          InputError: settings that do not apply to the data.
        """

    def eval_reader(
        self, dataset: Dataset, preprocessing: Preprocessing, source: Source
    ) -> EvalReader:
        """Make the reader of a split that is evaluated."""

    def criterion(
        self, config: Config, dataset: Dataset, model: Model, preprocessing: Preprocessing
    ) -> Criterion:
        """Make the loss."""

    def collect(
        self, dataset: Dataset, source: Source, index: np.ndarray, judged: dict[str, Any]
    ) -> Result:
        """Sum up the judgements of a split.

        Args:
          dataset: the data.
          source: the split.
          index: place of each judged image in it, [n].
          judged: what the loss's `judge` gave, [n, …] by name; "label" too, if it is kept; and
            "unreadable", the number of images that were skipped.
        """

    def draw(
        self,
        output: Path,
        dataset: Dataset,
        preprocessing: Preprocessing,
        source: Source,
        result: Any,
    ) -> None:
        """Draw mistakes.png, and a task's other pictures, into the directory of a run.

        Args:
          output: the directory.
          dataset: the data.
          preprocessing: of the images.
          source: a split.
          result: what `collect` returned for it.
        """
