"""Segmentation: a class for every pixel."""

from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np

from flaxmobile.layers import Model
from flaxmobile.preprocessing import Preprocessing
from train.config import Config
from train.data import Dataset
from train.data.augmentation import color_changes
from train.data.masks.examples import AugmentedMasks, PreparedMasks, canvas_of
from train.data.masks.mask import MaskSource
from train.data.masks.opening import open_masks
from train.data.masks.weights import balanced_weights
from train.data.records import Source
from train.tasks.mask_results import draw_results
from train.tasks.pixels import PixelLoss, PixelVerdicts


class Segment:
    """The task of `flaxmobile.create_segmenter`, see `train.tasks.task.Task`."""

    keeps_labels: ClassVar[bool] = False

    def open_dataset(self, config: Config) -> Dataset:
        """Open images with masks."""
        return open_masks(config.dataset, config.data_dir, config.select(config.seed))

    def train_reader(
        self, config: Config, dataset: Dataset, preprocessing: Preprocessing
    ) -> AugmentedMasks:
        """Scale, crop, mirror and colour training images as the settings say."""
        least, largest = config.scale_range
        changes = color_changes(config)
        return AugmentedMasks(
            preprocessing, len(dataset.class_names), (least, largest), config.flip, changes
        )

    def eval_reader(
        self, dataset: Dataset, preprocessing: Preprocessing, source: Source
    ) -> PreparedMasks:
        """Resize the shorter side, and pad to the largest image."""
        canvas = canvas_of(cast(MaskSource, source).sizes(), preprocessing)
        return PreparedMasks(preprocessing, len(dataset.class_names), canvas)

    def criterion(
        self, config: Config, dataset: Dataset, model: Model, preprocessing: Preprocessing
    ) -> PixelLoss:
        """Make the cross entropy of the pixels."""
        if config.class_weights == "balanced":
            return PixelLoss(balanced_weights(dataset.train, len(dataset.class_names)))
        return PixelLoss()

    def collect(
        self, dataset: Dataset, source: Source, index: np.ndarray, judged: dict[str, Any]
    ) -> PixelVerdicts:
        """Keep the confusion of each image."""
        return PixelVerdicts(index=index, **judged)

    def draw(
        self,
        output: Path,
        dataset: Dataset,
        preprocessing: Preprocessing,
        source: Source,
        result: PixelVerdicts,
    ) -> None:
        """Draw confusion.png and mistakes.png."""
        reader = self.eval_reader(dataset, preprocessing, source)
        draw_results(output, dataset.class_names, reader, source, result)
