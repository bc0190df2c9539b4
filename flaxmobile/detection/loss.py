"""Loss of SSD: default boxes are matched with objects, offsets and classes of both are compared.

Paper: Liu et al., "SSD: Single Shot MultiBox Detector", ECCV 2016 (arXiv:1512.02325), section 2.2.
Follows torchvision where the paper is silent.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from flaxmobile.detection.boxes import encode_boxes, pairwise_overlap

NEGATIVES = 3
"""Background boxes that count, for each box of an object: those with the largest loss."""


class Losses(NamedTuple):
    """Terms of the loss, summed over all images and divided by the number of matched boxes.

    Attributes:
      offsets: smooth L1 of the offsets of matched boxes.
      classes: cross-entropy of matched boxes and of the hardest others.
    """

    offsets: Array
    classes: Array


def match_boxes(
    defaults: Array, boxes: Array, labels: Array, iou_threshold: float | Array = 0.5
) -> Array:
    """Match default boxes with the objects of an image.

    A default box goes to the object that it overlaps most, if that is enough. Each object has the
    default box that overlaps it most in any case; the last of several objects with the same one.

    Args:
      defaults: [boxes, 4].
      boxes: [objects, 4], of the objects; at least one.
      labels: [objects], their classes; 0 for none, which fills images with fewer objects.
      iou_threshold: least intersection over union.

    Returns:
      The object's place for each default box, -1 for background: int32 [boxes].
    """
    overlaps = jnp.where(labels[:, None] > 0, pairwise_overlap(boxes, defaults), -1)
    nearest = jnp.where(overlaps.max(0) >= iou_threshold, overlaps.argmax(0), -1)
    places = jnp.where(labels > 0, jnp.arange(len(labels)), -1)
    forced = jnp.full(len(defaults), -1).at[overlaps.argmax(1)].max(places)
    return jnp.where(forced >= 0, forced, nearest).astype(jnp.int32)


def choose_hardest(losses: Array, matched: Array) -> Array:
    """Choose the matched boxes, and `NEGATIVES` times as many others with the largest losses.

    Args:
      losses: of the classes, [n, boxes].
      matched: bool [n, boxes], the boxes of objects.

    Returns:
      bool [n, boxes].
    """
    hardness = jnp.where(matched, -jnp.inf, jax.lax.stop_gradient(losses))
    rank = jnp.argsort(jnp.argsort(-hardness, axis=1), axis=1)
    return matched | (rank < NEGATIVES * matched.sum(1, keepdims=True))


def ssd_loss(
    outputs: dict[str, Array],
    defaults: Array,
    boxes: Array,
    labels: Array,
    iou_threshold: float | Array = 0.5,
) -> Losses:
    """Compare a detector's outputs with the objects of a batch of images.

    Args:
      outputs: {"offsets": [n, boxes, 4], "logits": [n, boxes, classes]}.
      defaults: [boxes, 4], in pixels of the images that the detector saw.
      boxes: [n, objects, 4], (xmin, ymin, xmax, ymax) in the same pixels; of positive height and
        width, apart from those of label 0.
      labels: int [n, objects], 1 and more; 0 where an image has fewer objects.
      iou_threshold: see `match_boxes`.
    """
    matches = jax.vmap(match_boxes, (None, 0, 0, None))(defaults, boxes, labels, iou_threshold)
    matched = matches >= 0  # [n, boxes]
    own = jnp.maximum(matches, 0)
    goals = encode_boxes(jnp.take_along_axis(boxes, own[:, :, None], 1), defaults[None])
    goals = jnp.where(matched[:, :, None], goals, 0)  # objects that are none have no offsets
    classes = jnp.where(matched, jnp.take_along_axis(labels, own, 1), 0)

    offsets = optax.losses.huber_loss(outputs["offsets"], goals).sum(-1)
    entropies = optax.losses.softmax_cross_entropy_with_integer_labels(outputs["logits"], classes)
    counted = choose_hardest(entropies, matched)
    number = jnp.maximum(matched.sum(), 1)
    return Losses((offsets * matched).sum() / number, (entropies * counted).sum() / number)
