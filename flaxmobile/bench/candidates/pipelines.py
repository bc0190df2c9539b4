"""Input pipelines, from JPEG files in class folders to batches of augmented training crops."""

import itertools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from flaxmobile.bench.candidates.base import Candidate, Missing
from flaxmobile.bench.job import PIPELINE_BATCHES, Job
from flaxmobile.errors import pip_install
from flaxmobile.preprocessing import Preprocessing

_PHOTOGRAPHS, _SIZE = 256, (500, 375)

_NAMES = 64
"""Names of each photograph, which make a data set of 16,384 records. Short epochs are slow in both
pipelines: torch restarts its iterator, and Grain's shuffle tries many indices."""


def photographs() -> Path:
    """Write JPEG files of ImageNet's usual size, width × height, into two class folders."""
    root = Path(tempfile.mkdtemp())  # in the job's directory, which is removed with it
    rng = np.random.default_rng(0)
    for split, number in itertools.product(("train", "val"), range(_PHOTOGRAPHS)):
        if split == "val" and number > 1:
            break
        path = root / split / f"class{number % 2}" / f"{number:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        blobs = rng.integers(0, 256, (24, 32, 3), np.uint8)
        image = np.asarray(Image.fromarray(blobs).resize(_SIZE, Image.Resampling.BICUBIC))
        grain = rng.normal(0, 12, image.shape)  # the file takes 100 kB, as those of ImageNet do
        Image.fromarray(np.uint8(np.clip(image + grain, 0, 255))).save(path, quality=90)
        for name in range(1, _NAMES):
            path.with_stem(f"{path.stem}_{name:02d}").hardlink_to(path)
    return root


class Pipeline(Candidate):
    """A candidate that takes batches without end."""

    batches: Any

    def call(self) -> np.ndarray:
        """Take some batches; return the shape of the last."""
        for _ in range(PIPELINE_BATCHES):
            batch = next(self.batches)
        return np.asarray(self.shape(batch))

    def shape(self, batch: Any) -> tuple[int, ...]:
        """Return [n, s, s, 3] for a batch, whatever its order of axes."""
        raise NotImplementedError


class Ours(Pipeline):
    """The pipeline of `train`, with its threads or processes: uint8, normalized on the device."""

    def __init__(self, job: Job) -> None:
        from train.data import open_dataset
        from train.data.augment import augment_photograph
        from train.data.examples import AugmentedImages
        from train.data.pipeline import train_batches
        from train.data.workers import default_workers

        self.batches = train_batches(
            open_dataset(f"folder:{photographs()}"),
            reader=AugmentedImages(Preprocessing(job.image_size), augment_photograph),
            batch_size=job.batch_size,
            seed=0,
            workers=default_workers(),
        )

    def shape(self, batch: Any) -> tuple[int, ...]:
        """Return the shape of an array [n, s, s, 3]."""
        return batch["image"].shape


class Torch(Pipeline):
    """torchvision's ImageFolder in torch's DataLoader: uint8 too, to be normalized later."""

    def __init__(self, job: Job) -> None:
        try:
            import torch
            from torchvision import datasets
            from torchvision.transforms import v2
        except ImportError as error:
            raise Missing(f"{pip_install('torch')}: {error}") from None

        transform = v2.Compose(
            [
                v2.RandomResizedCrop(job.image_size),
                v2.RandomHorizontalFlip(),
                v2.PILToTensor(),
            ]
        )
        loader = torch.utils.data.DataLoader(
            datasets.ImageFolder(str(photographs() / "train"), transform),
            job.batch_size,
            shuffle=True,
            num_workers=job.threads,
            persistent_workers=True,
            drop_last=True,
        )
        self.batches = iter(batch for _ in itertools.count() for batch in loader)

    def shape(self, batch: Any) -> tuple[int, ...]:
        """Return [n, s, s, 3] for a tensor [n, 3, s, s]."""
        count, channels, *sides = batch[0].shape
        return count, *sides, channels
