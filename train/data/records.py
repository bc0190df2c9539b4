"""Records, their sources and data sets: the interface between file readers and the pipeline."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image

from flaxmobile.errors import InputError, flag
from flaxmobile.preprocessing import Preprocessing
from train.data.decoding import EncodedImage

BACKGROUND = "__background__"
"""Name of class 0 where a network finds objects, torchvision's."""

Augment = Callable[[EncodedImage, int, np.random.Generator, str], Image.Image]
"""(image, side in pixels, generator, interpolation) -> a random variant, side × side."""


class Record(NamedTuple):
    """One labelled image.

    Attributes:
      encoded: content of its image file.
      label: index of its class; of an image with several labels, 0 or 1 for each class; of one with
        boxes, its `Annotations`; otherwise what the task's readers take.
      name: path, or dataset/split/index, for messages.
    """

    encoded: bytes
    label: Any
    name: str


class Source(Protocol):
    """Records by index. It can be pickled: each worker process reads through its own copy.

    Indexing raises UnreadableImageError for a file that cannot be opened, and InputError for a
    label outside the classes.
    """

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Record:
        """Read one record; several threads may call this at once."""

    def labels(self) -> np.ndarray:
        """Return the labels of all records, [n] or [n, classes]; may read all of them."""

    def listing(self) -> Iterable[str]:
        """Identify the records without reading them, and independently of where the data lies."""


@dataclasses.dataclass(frozen=True)
class Selection:
    """What of a data set is used for training, validation and test.

    Attributes:
      splits: "train", "validation" or "test" -> the data set's own name, where it is another one.
      val_split: share of the training images to hold out for validation; None: a tenth, where
        there is no validation split.
      seed: decides which images are held out, of other data than TFDS's.
      labels: CSV files with the classes of images that lie in no class folder.
      label_columns: their columns of files and classes; () to find them.
      multi_label: whether an image may have several labels.
      label_map: classes of the values of masks, VALUE=NAME each; () where values are classes.
    """

    splits: Mapping[str, str] = dataclasses.field(default_factory=dict)
    val_split: float | None = None
    seed: int = 0
    labels: tuple[str, ...] = ()
    label_columns: tuple[str, ...] = ()
    multi_label: bool = False
    label_map: tuple[str, ...] = ()


def refuse(selection: Selection, dataset: str, *fields: str) -> None:
    """Raise InputError if one of the fields says something that the data set cannot follow."""
    for field in fields:
        if getattr(selection, field):
            raise InputError(f"{flag(field)} does not apply to {dataset}: leave it out")


@dataclasses.dataclass(frozen=True)
class Dataset:
    """The splits of a data set, and how its images should be treated.

    Attributes:
      name: as given to `open_dataset`.
      class_names: one per class, in the order of the labels.
      train, validation: never empty.
      test: None if there is no labelled test split.
      augment: random changes of a classifier's training image, a function that can be pickled; None
        for other tasks.
      preset: preprocessing that suits the images. Its image_size and crop are used for any network;
        weights to start from override the rest. None: the network's.
      workers: processes that should read it; None: the number for photographs.
      notes: lines for the user: how it was split, what was left out.
      multi_label: whether an image may have several labels.
    """

    name: str
    class_names: tuple[str, ...]
    train: Source
    validation: Source
    test: Source | None
    augment: Augment | None = None
    preset: Preprocessing | None = None
    workers: int | None = None
    notes: tuple[str, ...] = ()
    multi_label: bool = False

    @property
    def judged(self) -> tuple[str, Source]:
        """Split by which a run is judged at its end, and its name: test, or else validation."""
        return ("validation", self.validation) if self.test is None else ("test", self.test)
