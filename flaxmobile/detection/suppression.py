"""Objects from scored boxes: the best of each class that do not overlap a better one."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from flaxmobile.detection.boxes import pairwise_overlap

CANDIDATES = 300
"""Most boxes of a class that are looked at, torchvision's for SSDLite320."""


class Objects(NamedTuple):
    """Objects in images.

    Attributes:
      boxes: [..., objects, 4], (xmin, ymin, xmax, ymax) in pixels.
      labels: [..., objects], the classes; 0 (the background) where there is no object.
      scores: [..., objects], 0 to 1; 0 where there is no object.
    """

    boxes: Any
    labels: Any
    scores: Any


def select_objects(
    boxes: Array,
    scores: Array,
    *,
    max_objects: int = 300,
    score_threshold: float | Array = 0.001,
    iou_threshold: float | Array = 0.55,
) -> Objects:
    """Choose the objects of images by non-maximum suppression, each class for itself.

    Args:
      boxes: [n, boxes, 4].
      scores: [n, boxes, classes], class 0 being the background.
      max_objects: how many to return; static.
      score_threshold: boxes of a class must score more.
      iou_threshold: intersection over union above which the worse of two boxes is dropped.

    Returns:
      [n, max_objects, …], best first; zeros where there are fewer objects.
    """
    one = partial(_select, max_objects=max_objects)
    return jax.vmap(one, (0, 0, None, None))(boxes, scores, score_threshold, iou_threshold)


def _select(
    boxes: Array, scores: Array, score_threshold: Any, iou_threshold: Any, max_objects: int
) -> Objects:
    by_class = scores[:, 1:].T  # [classes, boxes]
    candidates = min(CANDIDATES, len(boxes))
    best, places = lax.top_k(jnp.where(by_class > score_threshold, by_class, 0), candidates)
    kept = jax.vmap(suppress, (0, 0, None))(boxes[places], best, iou_threshold)
    flat = jnp.where(kept, best, 0).reshape(-1)
    top, order = lax.top_k(flat, min(max_objects, len(flat)))
    found = Objects(boxes[places.reshape(-1)[order]], 1 + order // candidates, top)
    there = top > 0
    found = Objects(*(jnp.where(there.reshape(-1, *[1] * (x.ndim - 1)), x, 0) for x in found))
    missing = max_objects - len(top)
    return Objects(*(jnp.pad(x, [(0, missing), *[(0, 0)] * (x.ndim - 1)]) for x in found))


def suppress(boxes: Array, scores: Array, iou_threshold: float | Array) -> Array:
    """Mark the boxes of one class that overlap no better box that is kept: bool [n].

    Args:
      boxes: [n, 4], best first.
      scores: [n]; boxes of score 0 are none.
      iou_threshold: overlaps above it count.
    """
    close = pairwise_overlap(boxes, boxes) > iou_threshold
    later = jnp.arange(len(boxes))

    def drop(place: Array, kept: Array) -> Array:
        return kept & ~(kept[place] & close[place] & (later > place))

    kept: Array = lax.fori_loop(0, len(boxes), drop, scores > 0)
    return kept
