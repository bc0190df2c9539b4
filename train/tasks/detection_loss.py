"""What a detector minimizes, and what it finds in evaluation."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flaxmobile.detection import (
    Losses,
    Objects,
    blend,
    decode,
    face_loss,
    find_objects,
    make_anchors,
    ssd_loss,
)
from flaxmobile.detection.boxes import clip_boxes
from train.average_precision import MOST

Outputs = dict[str, Array]

_LEAST_SCORE = 0.01
"""Least score of faces that are measured; precision is counted over all thresholds above."""


@dataclasses.dataclass(frozen=True)
class DetectionLoss:
    """SSD's loss against objects as `train.data.objects.readers` gives them.

    Attributes:
      defaults: default boxes, float32 [boxes, 4], of images of `image_size`.
      image_size: (height, width) in pixels.
    """

    defaults: np.ndarray
    image_size: tuple[int, int]

    def targets(self, labels: Outputs, classes: int, dtype: Any) -> Outputs:
        """Return the objects: they are targets already."""
        return labels

    def __call__(self, outputs: Outputs, targets: Outputs) -> Array:
        """Add the losses of offsets and classes, over the number of matched boxes."""
        offsets, classes = self._losses(outputs, targets)
        return offsets + classes

    def measure(self, outputs: Outputs, targets: Outputs) -> dict[str, Array]:
        """Return the terms of the loss."""
        offsets, classes = self._losses(outputs, targets)
        return {"offset_loss": offsets, "class_loss": classes}

    def judge(self, outputs: Outputs, labels: Outputs) -> dict[str, Array]:
        """Find the objects of each image.

        Returns:
          The loss [n], and "boxes" [n, detections, 4], "labels" and "scores" [n, detections], best
          first; score 0 where an image has fewer.
        """
        losses = jax.vmap(self)(*jax.tree.map(lambda each: each[:, None], (outputs, labels)))
        found = self._find(outputs)
        return {"loss": losses, **found._asdict()}

    def _losses(self, outputs: Outputs, targets: Outputs) -> Losses:
        labels = jnp.where(targets["ignored"], 0, targets["labels"])
        return self._compare(outputs, jnp.asarray(self.defaults), targets["boxes"], labels)

    def _compare(self, outputs: Outputs, defaults: Array, boxes: Array, labels: Array) -> Losses:
        return ssd_loss(outputs, defaults, boxes, labels)

    def _find(self, outputs: Outputs) -> Objects:
        return find_objects(outputs, jnp.asarray(self.defaults), self.image_size)


@dataclasses.dataclass(frozen=True)
class FaceLoss(DetectionLoss):
    """BlazeFace's loss against faces, and the faces that it finds.

    Attributes:
      counts: stride of a map -> anchors in each of its cells.
      The others: see `DetectionLoss`; the default boxes are those of `make_matching_boxes`.
    """

    counts: Mapping[int, int]

    def _compare(self, outputs: Outputs, defaults: Array, boxes: Array, labels: Array) -> Losses:
        return face_loss(outputs, defaults, boxes, labels)

    def _find(self, outputs: Outputs) -> Objects:
        side, _ = self.image_size
        candidates = decode(outputs, make_anchors(side, self.counts), side)
        faces = blend(candidates, max_faces=MOST, score_threshold=_LEAST_SCORE)
        boxes = clip_boxes(faces.boxes[..., [1, 0, 3, 2]] * side, self.image_size)
        return Objects(boxes, (faces.scores > 0).astype(jnp.int32), faces.scores)
