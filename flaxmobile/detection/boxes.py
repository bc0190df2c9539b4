"""Default boxes of SSD, and boxes as offsets from them.

Paper: Liu et al., "SSD: Single Shot MultiBox Detector", ECCV 2016 (arXiv:1512.02325), section 2.2.
Numbers and order are torchvision's, for SSDLite320, or those of TensorFlow's Object Detection API,
whose first map has three boxes per cell.

Boxes are (xmin, ymin, xmax, ymax) in pixels, as in torchvision, COCO's and VOC's tools. (Faces are
(ymin, xmin, ymax, xmax), as in MediaPipe.)
"""

import itertools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

ASPECT_RATIOS = (2, 3)
BOXES_PER_CELL = 2 + 2 * len(ASPECT_RATIOS)
MIN_SCALE, MAX_SCALE = 0.2, 0.95
"""Sizes of the boxes on the first and on the last map, over the image's side."""
SMALL_SCALE = 0.1
"""Size of the smallest square of variant "paper"."""

MIDDLE_SCALE, SIDE_SCALE = 10, 5
"""Factors of the offsets, so that a network learns numbers near 1."""
MOST_LOG_GROWTH = math.log(1000 / 16)
"""Largest logarithm of a box's side over its default box's, so that the exponential is finite."""


def default_sides(maps: int, variant: str = "torchvision") -> list[list[tuple[float, float]]]:
    """List (width, height) of each map's default boxes, over the image's, the finest map first.

    Args:
      maps: how many.
      variant: "torchvision": two squares, then for each aspect ratio a wide and a high box.
        "paper", as in TensorFlow's Object Detection API: the first map has a small square, a wide
        and a high box; the others have the larger square last.
    """
    steps = max(1, maps - 1)
    scales = [MIN_SCALE + (MAX_SCALE - MIN_SCALE) * k / steps for k in range(maps)] + [1.0]
    levels = []
    for scale, larger in itertools.pairwise(scales):
        square, between = (scale, scale), (math.sqrt(scale * larger),) * 2
        oblong = []
        for ratio in map(math.sqrt, ASPECT_RATIOS):
            oblong += [(scale * ratio, scale / ratio), (scale / ratio, scale * ratio)]
        if variant == "torchvision":
            levels.append([square, between, *oblong])
        elif levels:
            levels.append([square, *oblong, between])
        else:
            levels.append([(SMALL_SCALE, SMALL_SCALE), *oblong[:2]])
    return levels


def make_default_boxes(
    map_sizes: Sequence[tuple[int, int]],
    image_size: tuple[int, int],
    variant: str = "torchvision",
) -> np.ndarray:
    """Place the default boxes of several feature maps: float32 [boxes, 4].

    Each cell of each map has those of `default_sides` around its middle, cut to the image's sides.
    Maps come in order, their cells row by row.

    Args:
      map_sizes: (height, width) of each map, the finest first.
      image_size: (height, width) of the image in pixels.
      variant: see `default_sides`.
    """
    height, width = image_size
    levels = []
    all_sides = default_sides(len(map_sizes), variant)
    for (rows, columns), sides in zip(map_sizes, all_sides, strict=True):
        half = np.float32(0.5) * np.asarray(sides, np.float32).clip(0, 1)  # [boxes, (w, h)]
        x = (np.arange(columns, dtype=np.float32) + 0.5) / np.float32(columns)
        y = (np.arange(rows, dtype=np.float32) + 0.5) / np.float32(rows)
        middle = np.stack(np.meshgrid(x, y), -1)[:, :, None]  # [rows, columns, 1, (x, y)]
        levels.append(np.concatenate([middle - half, middle + half], -1).reshape(-1, 4))
    return np.concatenate(levels) * np.asarray([width, height] * 2, np.float32)


def encode_boxes(boxes: ArrayLike, defaults: ArrayLike) -> Array:
    """Describe boxes [..., 4] by their offsets from default boxes [..., 4]: [..., 4].

    Offsets are those of the middle (x, y), over the default box's sides, and the logarithms of the
    sides (width, height) over the default box's, times `MIDDLE_SCALE` and `SIDE_SCALE`.
    """
    dtype = jnp.result_type(boxes, defaults)
    middle, sides = _middle_and_sides(jnp.asarray(boxes, dtype))
    own_middle, own_sides = _middle_and_sides(jnp.asarray(defaults, dtype))
    shift, growth = (middle - own_middle) / own_sides, jnp.log(sides / own_sides)
    return jnp.concatenate([MIDDLE_SCALE * shift, SIDE_SCALE * growth], -1)


def decode_boxes(offsets: Array, defaults: ArrayLike) -> Array:
    """Undo `encode_boxes`; sides grow by at most exp(`MOST_LOG_GROWTH`)."""
    shift, growth = offsets[..., :2] / MIDDLE_SCALE, offsets[..., 2:] / SIDE_SCALE
    middle, sides = _middle_and_sides(jnp.asarray(defaults, offsets.dtype))
    middle = shift * sides + middle
    half = 0.5 * (jnp.exp(jnp.minimum(growth, MOST_LOG_GROWTH)) * sides)
    return jnp.concatenate([middle - half, middle + half], -1)


def clip_boxes(boxes: Array, image_size: tuple[int, int]) -> Array:
    """Cut boxes [..., 4] off at the edges of an image of (height, width)."""
    height, width = image_size
    most = jnp.asarray([width, height] * 2, boxes.dtype)
    return jnp.clip(boxes, 0, most.reshape((1,) * (boxes.ndim - 1) + (4,)))


def overlap(box: Array, boxes: Array) -> Array:
    """Intersection over union of a box [4] with others [n, 4], in either order: [n]."""
    low = jnp.maximum(box[None, :2], boxes[:, :2])
    high = jnp.minimum(box[None, 2:], boxes[:, 2:])
    common = jnp.prod(jnp.maximum(high - low, 0), -1)
    area = jnp.prod(box[2:] - box[:2]) + jnp.prod(boxes[:, 2:] - boxes[:, :2], -1)
    return common / jnp.maximum(area - common, jnp.finfo(boxes.dtype).tiny)


pairwise_overlap = jax.vmap(overlap, (0, None))
"""Intersection over union of boxes [m, 4] with boxes [n, 4]: [m, n]."""


def _middle_and_sides(boxes: Array) -> tuple[Array, Array]:
    sides = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + 0.5 * sides, sides
