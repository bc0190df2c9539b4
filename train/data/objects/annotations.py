"""Objects of an image as all formats give them, checked; and the images of a split with theirs."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image

from flaxmobile.errors import InputError
from flaxmobile.images import UnreadableImageError, upright_size
from train.data.files import LeftOut
from train.data.records import Record, Source

NO_AREA = "boxes without area inside their image"


class Annotations(NamedTuple):
    """Objects of an image.

    Attributes:
      size: (width, height) of the image, upright.
      boxes: float32 [objects, 4], (xmin, ymin, xmax, ymax) in pixels, inside the image.
      labels: int32 [objects], classes, 1 and more.
      ignored: bool [objects]: crowds (COCO) and difficult objects (VOC). They are not trained for;
        in evaluation a detection of one is neither right nor wrong.
    """

    size: tuple[int, int]
    boxes: np.ndarray
    labels: np.ndarray
    ignored: np.ndarray

    @classmethod
    def none(cls, size: tuple[int, int]) -> "Annotations":
        """Return those of an image without objects."""
        return cls(size, np.zeros((0, 4), np.float32), np.zeros(0, np.int32), np.zeros(0, bool))

    def counted(self) -> "Annotations":
        """Return the objects that are not ignored."""
        return self.choose(~self.ignored)

    def choose(self, chosen: np.ndarray) -> "Annotations":
        """Return the objects where `chosen`, bool [objects], is true."""
        size, *columns = self
        return Annotations(size, *(column[chosen] for column in columns))


Object = tuple[Sequence[float], int, bool]
"""Box (xmin, ymin, xmax, ymax), label, and whether it is ignored."""

Files = tuple[tuple[str, Annotations], ...]
"""(path, objects) of each image of a split."""


def annotate(
    size: tuple[int, int],
    objects: Sequence[Object],
    name: str,
    left_out: LeftOut,
) -> Annotations:
    """Check the objects of an image.

    Boxes are cut off at the image's edges. Those without area are then left out with a note, as
    torchvision's reference does: COCO itself has some. An inverted box is refused, because it says
    that numbers were written in another order.

    Args:
      size: (width, height) of the image.
      objects: as the file has them.
      name: path of the image or its annotation, for messages.
      left_out: takes the boxes without area.

    Raises:
      InputError: an inverted box, or one that is not 4 finite numbers.
    """
    width, height = size
    kept = []
    for number, (box, label, ignored) in enumerate(objects, start=1):
        if len(box) != 4 or not np.isfinite(box).all():
            raise InputError(f"{name}: box {number} is {list(box)}; accepted: 4 finite numbers")
        if box[2] < box[0] or box[3] < box[1]:
            corners = ", ".join(f"{value:g}" for value in box)
            raise InputError(
                f"{name}: box {number} is inverted, (xmin, ymin, xmax, ymax) = ({corners}): "
                "xmax and ymax are at least xmin and ymin"
            )
        inside = np.asarray(box, np.float32).clip(0, np.array([width, height] * 2, np.float32))
        if (inside[2:] > inside[:2]).all():
            kept.append((inside, label, ignored))
        else:
            left_out.add(NO_AREA, f"{name} box {number}")
    return Annotations(
        size,
        np.array([box for box, _, _ in kept], np.float32).reshape(-1, 4),
        np.array([label for _, label, _ in kept], np.int32),
        np.array([ignored for _, _, ignored in kept], bool),
    )


class BoxedSource(Source, Protocol):
    """Records whose labels are `Annotations`."""

    def most_objects(self) -> int:
        """Return a number of objects that no image exceeds, at least 1."""


@dataclasses.dataclass(frozen=True)
class ObjectSource:
    """The images of a split.

    Attributes:
      files: (path, objects) of each image.
      classes: number of classes with the background.
    """

    files: Files
    classes: int

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Record:
        path, annotations = self.files[index]
        try:
            return Record(Path(path).read_bytes(), annotations, path)
        except OSError as error:
            raise UnreadableImageError(f"{path} cannot be read: {error.strerror}") from None

    def listing(self) -> Iterable[str]:
        """Name each file with its objects."""
        for path, annotations in self.files:
            boxes = annotations.boxes.round(2).tolist()
            yield f"{Path(path).name} {annotations.labels.tolist()} {boxes}"

    def labels(self) -> np.ndarray:
        """Return 0 or 1 for each class of each image, [n, classes]."""
        flags = np.zeros((len(self), self.classes), np.int32)
        for row, (_, annotations) in zip(flags, self.files, strict=True):
            row[annotations.labels] = 1
        return flags

    def has_objects(self) -> bool:
        """Tell whether there is any object that is not ignored."""
        return any(not annotations.ignored.all() for _, annotations in self.files)

    def most_objects(self) -> int:
        """Return the number of objects in the image that has most, at least 1."""
        return max(1, *(len(annotations.labels) for _, annotations in self.files))

    def part(self, chosen: np.ndarray) -> "ObjectSource":
        """Return a source of some of the images."""
        files = (file for file, use in zip(self.files, chosen, strict=True) if use)
        return dataclasses.replace(self, files=tuple(files))


def read_size(path: Path) -> tuple[int, int]:
    """Read (width, height) of an image, upright, from the head of its file.

    Raises:
      InputError: no such file, or not an image.
    """
    try:
        with Image.open(path) as image:
            return upright_size(image)
    except Exception as error:  # damaged heads raise anything
        raise InputError(f"{path} cannot be read as an image: {error}") from None


def read_text(path: Path) -> str:
    """Read a file of annotations.

    Raises:
      InputError: it is missing or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InputError(f"{path} cannot be read: {reason}") from None
