"""What a detector minimizes, and what it finds in evaluation."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flaxmobile.detection import Losses, find_objects, ssd_loss

Outputs = dict[str, Array]


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
        found = find_objects(outputs, jnp.asarray(self.defaults), self.image_size)
        return {"loss": losses, **found._asdict()}

    def _losses(self, outputs: Outputs, targets: Outputs) -> Losses:
        labels = jnp.where(targets["ignored"], 0, targets["labels"])
        return ssd_loss(outputs, jnp.asarray(self.defaults), targets["boxes"], labels)
