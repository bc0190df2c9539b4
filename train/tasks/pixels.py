"""Loss and evaluation of networks that give a class to every pixel."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from train.data.masks.mask import IGNORED

_THUMBNAIL = 128
"""Most rows and columns of the masks that are kept for pictures."""


@dataclasses.dataclass(frozen=True)
class PixelLoss:
    """Cross entropy of the pixels that have a class, as `torch.nn.CrossEntropyLoss` averages it.

    A batch without any such pixel has the loss 0. With `pmap` each device averages over its own
    pixels, as PyTorch's data parallelism does.

    Attributes:
      class_weights: factor of each class; None weighs all alike.
    """

    class_weights: tuple[float, ...] | None = None

    def targets(self, labels: Array, classes: int, dtype: Any) -> Array:
        """Return the masks [n, h, w] as int32."""
        return labels.astype(jnp.int32)

    def __call__(self, logits: Array, masks: Array) -> Array:
        """Average the loss of logits [n, h, w, classes] over the pixels of masks [n, h, w]."""
        known = masks != IGNORED
        classes = jnp.where(known, masks, 0)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, classes)
        weights = known.astype(losses.dtype)
        if self.class_weights is not None:
            weights *= jnp.asarray(self.class_weights, losses.dtype)[classes]
        total = weights.sum()
        return jnp.sum(losses * weights) / jnp.where(total > 0, total, 1)

    def measure(self, logits: Array, masks: Array) -> dict[str, Array]:
        """Compute the share of pixels that have the right class."""
        known = masks != IGNORED
        hits = jnp.sum((jnp.argmax(logits, -1) == masks) & known, dtype=logits.dtype)
        return {"accuracy": hits / jnp.maximum(1, known.sum(dtype=logits.dtype))}

    def judge(self, logits: Array, labels: Array) -> dict[str, Array]:
        """Judge each image.

        Returns:
          The loss without weights of classes, [n]; "confusion", the pixels by class (rows) and
          prediction (columns), int32 [n, classes, classes]; "thumbnails", the masks of label and
          prediction, shrunk, uint8 [n, 2, rows, columns].
        """
        masks = self.targets(labels, logits.shape[-1], logits.dtype)
        predicted = jnp.argmax(logits, -1).astype(jnp.int32)
        step = -(-max(masks.shape[1:]) // _THUMBNAIL)
        shrunk = jnp.stack([masks, predicted], 1)[:, :, ::step, ::step]
        return {
            "loss": jax.vmap(PixelLoss())(logits, masks),
            "confusion": jax.vmap(count_pixels, (0, 0, None))(masks, predicted, logits.shape[-1]),
            "thumbnails": shrunk.astype(jnp.uint8),
        }


def count_pixels(masks: Array, predicted: Array, classes: int) -> Array:
    """Count pixels by class (rows) and prediction (columns), without those that have no class.

    Args:
      masks, predicted: integers of one shape, at most 2²⁴ of them.
      classes: number of classes.

    Returns:
      int32 [classes, classes].
    """
    # As a product of 0 and 1, exact in float32: accelerators are slow at scattering.
    rows = jax.nn.one_hot(masks.ravel(), classes, dtype=jnp.float32)  # without class: zeros
    columns = jax.nn.one_hot(predicted.ravel(), classes, dtype=jnp.float32)
    return jnp.round(rows.T @ columns).astype(jnp.int32)


@dataclasses.dataclass(frozen=True)
class PixelVerdicts:
    """Judgement of each readable image of a split, in its order.

    Attributes:
      index: place of the image in the split, [n].
      loss: of the image, [n].
      confusion: pixels by class and prediction, [n, classes, classes].
      thumbnails: shrunk masks of label and prediction, uint8 [n, 2, rows, columns].
      unreadable: number of images that were skipped.
    """

    index: np.ndarray
    loss: np.ndarray
    confusion: np.ndarray
    thumbnails: np.ndarray
    unreadable: int

    def counts(self) -> np.ndarray:
        """Count the pixels of all images by class and prediction: int64 [classes, classes]."""
        return self.confusion.sum(0, dtype=np.int64)

    def means(self) -> dict[str, float]:
        """Return the mean intersection over union, the share of right pixels and the loss."""
        counts = self.counts()
        return {
            "miou": float(np.nanmean(intersection_over_union(counts))),
            "accuracy": float(np.diag(counts).sum() / max(1, counts.sum())),
            "loss": float(self.loss.mean(dtype=np.float64)),
        }

    def per_class(self, names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
        """Compute intersection over union, accuracy and pixels of each class.

        None are those of a class that is not there.
        """
        counts = self.counts()
        union, pixels = intersection_over_union(counts), counts.sum(1)
        return {
            name: {
                "iou": None if np.isnan(union[index]) else float(union[index]),
                "accuracy": float(counts[index, index] / pixels[index]) if pixels[index] else None,
                "pixels": int(pixels[index]),
            }
            for index, name in enumerate(names)
        }


def intersection_over_union(counts: np.ndarray) -> np.ndarray:
    """Divide the pixels of each class that are found by those that have or are given it.

    Args:
      counts: pixels by class (rows) and prediction (columns), [..., classes, classes].

    Returns:
      [..., classes]; NaN for a class that is neither there nor predicted.
    """
    found = np.diagonal(counts, axis1=-2, axis2=-1)
    union = counts.sum(-1) + counts.sum(-2) - found
    return np.where(union > 0, found / np.maximum(1, union), np.nan)
