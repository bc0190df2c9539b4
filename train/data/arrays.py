"""Classified images in memory."""

import dataclasses
from collections.abc import Iterable

import numpy as np

from train.data.records import Record


def as_netpbm(pixels: np.ndarray) -> bytes:
    """Encode uint8 [h, w] or [h, w, 3] as a PGM or PPM file: a header and the pixels."""
    kind = "P5" if pixels.ndim == 2 else "P6"
    return f"{kind} {pixels.shape[1]} {pixels.shape[0]} 255\n".encode() + pixels.tobytes()


@dataclasses.dataclass(frozen=True, eq=False)
class ArraySource:
    """The images of a split, in memory.

    Attributes:
      name: for messages.
      images: uint8 [n, h, w], or [n, h, w, 3].
      classes: integers [n].
    """

    name: str
    images: np.ndarray
    classes: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Record:
        """Return a record in the format PNM, which takes no time to encode."""
        encoded = as_netpbm(self.images[index])
        return Record(encoded, int(self.classes[index]), f"{self.name}/{index}")

    def labels(self) -> np.ndarray:
        """Return the label of each record."""
        return self.classes

    def listing(self) -> Iterable[str]:
        """List the labels."""
        return map(str, self.classes.tolist())

    def part(self, chosen: np.ndarray) -> "ArraySource":
        """Return a source of some of the images."""
        return dataclasses.replace(self, images=self.images[chosen], classes=self.classes[chosen])
