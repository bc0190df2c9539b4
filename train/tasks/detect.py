"""Detection: boxes around the objects of an image."""

import dataclasses
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np

from flaxmobile.detection import SSDLite
from flaxmobile.layers import Model
from flaxmobile.preprocessing import Preprocessing
from train.average_precision import check_library
from train.config import Config
from train.data import Dataset
from train.data.augmentation import color_changes
from train.data.objects.annotations import BoxedSource
from train.data.objects.augment import PRESETS
from train.data.objects.opening import open_objects
from train.data.objects.readers import AugmentedBoxes, PreparedBoxes
from train.data.records import Source
from train.tasks.detection_loss import DetectionLoss
from train.tasks.detections import Detections


class Detect:
    """The task of SSDLite, see `train.tasks.task.Task`."""

    keeps_labels: ClassVar[bool] = True

    def open_dataset(self, config: Config) -> Dataset:
        """Open images with boxes."""
        check_library()
        return open_objects(config.dataset, config.select(config.seed))

    def train_reader(
        self, config: Config, dataset: Dataset, preprocessing: Preprocessing
    ) -> AugmentedBoxes:
        """Crop, mirror and change training images as the settings say."""
        augment = PRESETS[config.box_augmentation]
        augment = dataclasses.replace(
            augment, flip=augment.flip and config.flip, changes=color_changes(config)
        )
        return AugmentedBoxes(preprocessing.side, _most_objects(dataset.train), augment)

    def eval_reader(
        self, dataset: Dataset, preprocessing: Preprocessing, source: Source
    ) -> PreparedBoxes:
        """Scale whole images."""
        return PreparedBoxes(preprocessing.side, _most_objects(source))

    def criterion(
        self, config: Config, dataset: Dataset, model: Model, preprocessing: Preprocessing
    ) -> DetectionLoss:
        """Make SSD's loss for the default boxes of the network."""
        assert isinstance(model, SSDLite)
        size = preprocessing.height_and_width
        return DetectionLoss(model.default_boxes(size), size)

    def collect(
        self, dataset: Dataset, source: Source, index: np.ndarray, judged: dict[str, Any]
    ) -> Detections:
        """Put what was found beside the objects."""
        return Detections(
            index=index,
            objects=judged["label"],
            found={name: judged[name] for name in ("boxes", "labels", "scores")},
            loss=judged["loss"],
            classes=len(dataset.class_names),
            unreadable=judged["unreadable"],
        )

    def write_results(
        self,
        output: Path,
        dataset: Dataset,
        preprocessing: Preprocessing,
        source: Source,
        result: Detections,
    ) -> None:
        """Write test.json."""
        split = "validation" if dataset.test is None else "test"
        result.write(output / "test.json", split, dataset.class_names)


def _most_objects(source: Source) -> int:
    return cast(BoxedSource, source).most_objects()
