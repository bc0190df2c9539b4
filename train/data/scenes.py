"""Embedded data for dense tasks, made on the fly: handwritten digits on cluttered backgrounds.

Every scene follows from its split, number and seed. The digits of the splits are different scans,
so that no digit of an evaluated scene has been trained on.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from flaxmobile.preprocessing import Preprocessing
from train.data.arrays import as_netpbm
from train.data.records import BACKGROUND, Dataset, Record
from train.data.scans import load_scans

NAME = "scenes"
CLASS_NAMES = (BACKGROUND, *map(str, range(10)))
SIDE = 128
"""Height and width of a scene in pixels."""

PRESET = Preprocessing(SIDE, SIDE, mean=(0.5,) * 3, std=(0.5,) * 3)

_COUNTS = {"train": 2000, "validation": 200, "test": 400}
_MOST_DIGITS = 4
_SIDES = (0.3, 0.6)
"""Least and largest side of a digit's scan, as a share of the scene's."""
_TRIES = 20
_TURN = 15  # degrees
_SHAPES = 12
_DARK, _LIGHT = (0, 150), (170, 256)
"""Values of the background and of strokes."""


class Scene(NamedTuple):
    """An image, and what is in it.

    Attributes:
      image: uint8 [h, w, 3].
      mask: uint8 [h, w], the class of each pixel: 0 for the background, digit + 1 for a stroke.
      boxes: float32 [k, 4], the pixels of each digit as (xmin, ymin, xmax, ymax); k is at least 1.
      labels: int32 [k], digit + 1.
    """

    image: np.ndarray
    mask: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray


def make_scene(split: str, index: int, seed: int = 0, side: int = SIDE) -> Scene:
    """Make a scene.

    Args:
      split: "train", "validation" or "test", whose scans are taken.
      index: number of the scene, from 0.
      seed: of all scenes.
      side: height and width in pixels, 32 or more.
    """
    rng = np.random.default_rng([seed, list(_COUNTS).index(split), index])
    scans = load_scans()
    places = scans.places(split)
    image, mask = _background(side, rng), np.zeros((side, side), np.uint8)
    boxes: list[tuple[int, int, int, int]] = []
    labels: list[int] = []
    for place in rng.choice(places, rng.integers(1, _MOST_DIGITS, endpoint=True)).tolist():
        stroke = _stroke(scans.pixels[place], round(side * rng.uniform(*_SIDES)), rng)
        box = _free_place(stroke.shape, boxes, side, rng)
        if box is None:
            continue
        left, top, right, bottom = box
        light = rng.integers(*_LIGHT, 3)
        seen = image[top:bottom, left:right]
        seen[:] = np.round(seen + stroke[..., None] * (light - seen.astype(float)))
        label = int(scans.digits[place]) + 1
        mask[top:bottom, left:right][stroke > 0.5] = label
        boxes.append(box)
        labels.append(label)
    return Scene(image, mask, np.array(boxes, np.float32), np.array(labels, np.int32))


def _background(side: int, rng: np.random.Generator) -> np.ndarray:
    """Draw soft clouds, and over them lines, ellipses and boxes; a few lines are light."""
    clouds = rng.integers(*_DARK, (5, 5, 3), np.uint8)
    image = Image.fromarray(clouds).resize((side, side), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(_SHAPES):
        (x1, x2), (y1, y2) = np.sort(rng.integers(-side // 4, side * 5 // 4, (2, 2))).tolist()
        colour, width = tuple(rng.integers(*_DARK, 3).tolist()), int(rng.integers(1, 6))
        match int(rng.integers(4)):
            case 0:
                draw.rectangle((x1, y1, x2, y2), outline=colour, width=width)
            case 1:
                draw.ellipse((x1, y1, x2, y2), outline=colour, width=width)
            case 2:
                draw.line((x1, y2, x2, y1), fill=colour, width=width)
            case _:
                light = tuple(rng.integers(*_LIGHT, 3).tolist())
                draw.line((x1, y1, x2, y2), fill=light, width=min(width, 2))
    return np.array(image)


def _stroke(scan: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """Enlarge and turn a scan, and cut away its empty border: opacity [h, w], 0 to 1."""
    framed = Image.fromarray(np.pad(scan, 2)).resize((side * 3 // 2,) * 2, Image.Resampling.BICUBIC)
    turned = framed.rotate(rng.uniform(-_TURN, _TURN), Image.Resampling.BILINEAR)
    # Steeper edges than those of the enlarged scan, and whole strokes.
    opacity = np.clip(np.asarray(turned) / 255 * 3 - 1, 0, 1)
    rows, columns = (np.flatnonzero((opacity > 0.5).any(axis)) for axis in (1, 0))
    return opacity[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _free_place(
    shape: Sequence[int],
    taken: Sequence[tuple[int, int, int, int]],
    side: int,
    rng: np.random.Generator,
) -> tuple[int, int, int, int] | None:
    """Draw a box (left, top, right, bottom) that overlaps no other; None if there is none."""
    height, width = shape
    for _ in range(_TRIES):
        left = int(rng.integers(side - width, endpoint=True))
        top = int(rng.integers(side - height, endpoint=True))
        right, bottom = left + width, top + height
        if all(right <= x1 or x2 <= left or bottom <= y1 or y2 <= top for x1, y1, x2, y2 in taken):
            return left, top, right, bottom
    return None


@dataclasses.dataclass(frozen=True)
class SceneSource:
    """The scenes of a split.

    Attributes:
      split: "train", "validation" or "test".
      label: makes a record's label of a scene; a function that can be pickled.
    """

    split: str
    label: Callable[[Scene], Any]

    def __len__(self) -> int:
        return _COUNTS[self.split]

    def __getitem__(self, index: int) -> Record:
        """Make a scene; its image is a PPM file, which takes no time to encode."""
        scene = make_scene(self.split, index)
        return Record(as_netpbm(scene.image), self.label(scene), f"{NAME}/{self.split}/{index}")

    def labels(self) -> np.ndarray:
        """Return the same class for all: a scene has several."""
        return np.zeros(len(self), np.int64)

    def sizes(self) -> Iterator[tuple[int, int]]:
        """Return the width and height that all scenes have."""
        return iter([(SIDE, SIDE)])

    def most_objects(self) -> int:
        """Return the most digits that a scene can have."""
        return _MOST_DIGITS

    def listing(self) -> Iterable[str]:
        """Name each scene."""
        return (f"{self.split}/{index}" for index in range(len(self)))


def open_scenes(label: Callable[[Scene], Any]) -> Dataset:
    """Open the scenes, each with what `label` makes of it."""
    train, validation, test = (SceneSource(split, label) for split in _COUNTS)
    return Dataset(NAME, CLASS_NAMES, train, validation, test, preset=PRESET, workers=0)
