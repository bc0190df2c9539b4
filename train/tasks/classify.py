"""Classification: a class, or several labels, for an image."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from flaxmobile.layers import Model
from flaxmobile.preprocessing import Preprocessing
from train.config import Config
from train.data import Dataset, open_dataset
from train.data.augmentation import make_augmentation
from train.data.balance import balanced_weights
from train.data.examples import AugmentedImages, PreparedImages
from train.data.records import Source
from train.losses import Loss
from train.tasks.image_results import draw_results
from train.tasks.verdicts import Verdicts


class Classify:
    """The task of a network without a head, see `train.tasks.task.Task`."""

    keeps_labels: ClassVar[bool] = True

    def open_dataset(self, config: Config) -> Dataset:
        """Open labelled images."""
        return open_dataset(config.dataset, config.data_dir, config.select(config.seed))

    def train_reader(
        self, config: Config, dataset: Dataset, preprocessing: Preprocessing
    ) -> AugmentedImages:
        """Crop and change training images as the settings say."""
        augment = make_augmentation(config, dataset, preprocessing)
        return AugmentedImages(preprocessing, augment)

    def eval_reader(
        self, dataset: Dataset, preprocessing: Preprocessing, source: Source
    ) -> PreparedImages:
        """Crop the centre."""
        flags = len(dataset.class_names) if dataset.multi_label else None
        return PreparedImages(preprocessing, flags)

    def criterion(
        self, config: Config, dataset: Dataset, model: Model, preprocessing: Preprocessing
    ) -> Loss:
        """Make the cross entropy, of the classes together or of each by itself."""
        weights = None
        if config.class_weights == "balanced":
            weights = balanced_weights(dataset.train.labels(), len(dataset.class_names))
        kind = "bce" if config.multi_label else config.loss
        return Loss(kind, config.label_smoothing, weights, config.multi_label)

    def collect(
        self, dataset: Dataset, source: Source, index: np.ndarray, judged: dict[str, Any]
    ) -> Verdicts:
        """Put the judgements beside the labels."""
        return Verdicts(index=index, classes=len(dataset.class_names), **judged)

    def draw(
        self,
        output: Path,
        dataset: Dataset,
        preprocessing: Preprocessing,
        source: Source,
        result: Verdicts,
    ) -> None:
        """Draw confusion.png and mistakes.png."""
        draw_results(output, dataset.class_names, preprocessing, source, result)
