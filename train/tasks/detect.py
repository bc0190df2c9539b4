"""Detection: boxes around the objects of an image."""

import dataclasses
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np

from flaxmobile.detection import SSDLite, make_matching_boxes
from flaxmobile.errors import InputError
from flaxmobile.layers import Model
from flaxmobile.models.blazeface import BlazeFace
from flaxmobile.models.blazeface_tables import VARIANTS
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
from train.pictures import plot_boxes
from train.tasks.box_results import worst_images
from train.tasks.detection_loss import DetectionLoss, FaceLoss
from train.tasks.detections import Detections


class Detect:
    """The task of SSDLite and BlazeFace, see `train.tasks.task.Task`."""

    keeps_labels: ClassVar[bool] = True

    def open_dataset(self, config: Config) -> Dataset:
        """Open images with boxes."""
        check_library()
        dataset = open_objects(config.dataset, config.data_dir, config.select(config.seed))
        if config.head:
            return dataset
        variant = config.network_options.get("variant", BlazeFace.variant)
        _check_matching(variant)
        return _of_faces(dataset, VARIANTS[variant].image_size)

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
        """Make the loss for the default boxes of the network: SSD's, or that of faces."""
        size = preprocessing.height_and_width
        if isinstance(model, BlazeFace):
            counts = model.table.anchors
            return FaceLoss(make_matching_boxes(size[0], counts), size, counts)
        assert isinstance(model, SSDLite)
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

    def draw(
        self,
        output: Path,
        dataset: Dataset,
        preprocessing: Preprocessing,
        source: Source,
        result: Detections,
    ) -> None:
        """Draw mistakes.png."""
        reader = self.eval_reader(dataset, preprocessing, source)
        if rows := worst_images(reader, source, result, dataset.class_names):
            plot_boxes(rows, output / "mistakes.png")


def _check_matching(variant: str) -> None:
    """Raise InputError for a variant whose cells have one anchor, to which no size is published."""
    trained = [name for name, each in VARIANTS.items() if not each.decoder]
    if variant not in trained:
        raise InputError(
            f"variant {variant} is for converted weights: how its anchors were matched with faces "
            f"is not published; accepted: {', '.join(trained)}"
        )


def _of_faces(dataset: Dataset, size: int) -> Dataset:
    """Check that there is one class, and take BlazeFace's preprocessing for images of a size."""
    _, *names = dataset.class_names
    if len(names) != 1:
        raise InputError(
            f"BlazeFace finds objects of one class, {dataset.name} has {len(names)}; take a "
            "folder of faces (WIDER FACE's layout), or another --model"
        )
    preset = Preprocessing(size, size, mean=(0.5,) * 3, std=(0.5,) * 3)
    return dataclasses.replace(dataset, preset=preset)


def _most_objects(source: Source) -> int:
    return cast(BoxedSource, source).most_objects()
