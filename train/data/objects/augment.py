"""SSD's augmentation: zoom out, crop and mirror an image with its boxes, and distort its colours.

Paper: Liu et al., "SSD: Single Shot MultiBox Detector", ECCV 2016 (arXiv:1512.02325), section 2.2.
Ranges and distributions are those of torchvision's `RandomZoomOut`, `RandomIoUCrop` and
`RandomPhotometricDistort`, and the presets those of its reference scripts.

Zooming, cropping and mirroring only choose the window that is seen, as (left, top, right, bottom)
in pixels of the image; the image is sampled once.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
from PIL import Image

from train.data.augmentation import Change
from train.data.objects.annotations import Annotations
from train.data.operations import apply_operation, shift_hue

OVERLAPS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
"""Least intersection over union of a crop with one of its boxes; 1 leaves the image whole."""

_MIN_SIDE = 0.3
"""Least share of the image's sides that a crop keeps."""
_RATIOS = (0.5, 2.0)
_TRIES = 40
_FILL = (123, 117, 104)
"""Mean colour of ImageNet's photographs, around an image that is zoomed out."""

Window = np.ndarray
"""(left, top, right, bottom); left > right mirrors the image."""


@dataclasses.dataclass(frozen=True)
class BoxAugmentation:
    """Random changes of an image with boxes.

    Attributes:
      crop: cut out a part that a box overlaps enough, see `crop_window`.
      flip: mirror half of the images.
      zoom_out: the image becomes smaller by up to this factor, half of the time; 1 is off.
      distort: change the colours, see `distort_colors`.
      changes: more changes of the colours.
    """

    crop: bool = True
    flip: bool = True
    zoom_out: float = 1.0
    distort: bool = False
    changes: tuple[Change, ...] = ()

    def __call__(
        self, image: Image.Image, annotations: Annotations, size: int, rng: np.random.Generator
    ) -> tuple[Image.Image, Annotations]:
        """Return a random variant, size × size pixels, with the boxes whose middle it shows."""
        if self.distort:
            image = distort_colors(image, rng)
        for change in self.changes:
            image = change(image, rng)
        window = np.array([0, 0, *image.size], float)
        if self.zoom_out > 1 and rng.random() < 0.5:
            window = zoom_window(window, self.zoom_out, rng)
        if self.crop:
            window = crop_window(window, annotations.boxes, rng)
        if self.flip and rng.random() < 0.5:
            window = window[[2, 1, 0, 3]]
        return see(image, annotations, window, size)


PRESETS = {
    "none": BoxAugmentation(crop=False, flip=False),
    "ssdlite": BoxAugmentation(),
    "ssd": BoxAugmentation(zoom_out=4.0, distort=True),
}
"""Name -> augmentation; those of torchvision's reference have its names."""


def zoom_window(window: Window, most: float, rng: np.random.Generator) -> Window:
    """Draw a larger window that holds the given one: 1 to `most` times its sides."""
    sides = window[2:] - window[:2]
    larger = sides * rng.uniform(1, most)
    corner = window[:2] - (larger - sides) * rng.random(2)
    return np.concatenate([corner, corner + larger])


def crop_window(window: Window, boxes: np.ndarray, rng: np.random.Generator) -> Window:
    """Draw a part of a window with the middle of a box, which overlaps a box enough.

    One of `OVERLAPS` is drawn, then parts of 0.3 to 1 times the sides, half to twice as wide as
    high, until the intersection over union with a box whose middle is inside reaches it; after 40
    parts another overlap is drawn.

    Args:
      window: to crop.
      boxes: [objects, 4], (xmin, ymin, xmax, ymax); without any, the window is returned.
      rng: draws all.
    """
    while len(boxes) and (least := rng.choice(OVERLAPS)) < 1:
        for part in _parts(window, rng):
            inside = boxes[_middle_inside(boxes, part)]
            if len(inside) and _overlaps(part, inside).max() >= least:
                return part
    return window


def _parts(window: Window, rng: np.random.Generator) -> Iterator[Window]:
    whole = window[2:] - window[:2]
    for _ in range(_TRIES):
        sides = whole * rng.uniform(_MIN_SIDE, 1, 2)
        if _RATIOS[0] <= sides[0] / sides[1] <= _RATIOS[1]:
            corner = window[:2] + (whole - sides) * rng.random(2)
            yield np.concatenate([corner, corner + sides])


def see(
    image: Image.Image, annotations: Annotations, window: Window, size: int
) -> tuple[Image.Image, Annotations]:
    """Scale a window of an image to size × size pixels, without antialiasing as torchvision does.

    Boxes whose middle is outside are left out, the others end at the window's edges.
    """
    scaled = image.transform(
        (size, size),
        Image.Transform.EXTENT,
        tuple(window),
        Image.Resampling.BILINEAR,
        fillcolor=_FILL,
    )
    points = annotations.boxes.reshape(-1, 2, 2) - window[:2]  # [objects, corner, (x, y)]
    points *= size / (window[2:] - window[:2])
    middle = points.mean(1)
    kept = ((middle > 0) & (middle < size)).all(1)
    corners = points[kept].clip(0, size).astype(np.float32)
    boxes = np.concatenate([corners.min(1), corners.max(1)], 1)
    seen = annotations.choose(kept)._replace(size=(size, size), boxes=boxes)
    return scaled, seen


def distort_colors(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Change brightness, contrast, saturation, hue and the order of the channels.

    Each is changed half of the time; contrast before saturation and hue, or after them.
    """
    first = rng.random() < 0.5
    changes = [
        ("Brightness", 0.125),
        *([("Contrast", 0.5)] if first else []),
        ("Color", 0.5),
        ("Hue", 0.05),
        *([] if first else [("Contrast", 0.5)]),
    ]
    for name, most in changes:
        if rng.random() < 0.5:
            change = rng.uniform(-most, most)
            hue = name == "Hue"
            image = shift_hue(image, change) if hue else apply_operation(image, name, change)
    if rng.random() < 0.5:
        image = Image.merge("RGB", [image.getchannel(place) for place in rng.permutation(3)])
    return image


def _middle_inside(boxes: np.ndarray, window: Window) -> np.ndarray:
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside: np.ndarray = ((middle > window[:2]) & (middle < window[2:])).all(1)
    return inside


def _overlaps(window: Window, boxes: np.ndarray) -> np.ndarray:
    """Intersection over union of a window with boxes."""
    sides = np.minimum(window[2:], boxes[:, 2:]) - np.maximum(window[:2], boxes[:, :2])
    common = sides.clip(0).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (window[2:] - window[:2]).prod()
    overlaps: np.ndarray = common / (areas - common)
    return overlaps
