"""Losses of a batch against soft targets."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jax import Array

from flaxmobile.layers import Network
from flaxmobile.preprocessing import Preprocessing


@dataclasses.dataclass(frozen=True)
class Loss:
    """How far logits are from targets.

    Attributes:
      kind: "softmax" for cross entropy; "bce" for binary cross entropy of every class, averaged
        over the classes (as timm's).
      label_smoothing: share of each label that is spread over all classes.
      class_weights: factor of each class in the loss; None weighs all alike.
    """

    kind: Literal["softmax", "bce"] = "softmax"
    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] | None = None

    def targets(self, labels: Array, classes: int, dtype: Any) -> Array:
        """Turn labels [n] into smoothed probabilities [n, classes]."""
        return optax.smooth_labels(
            jax.nn.one_hot(labels, classes, dtype=dtype), self.label_smoothing
        )

    def __call__(self, logits: Array, targets: Array) -> Array:
        """Average the loss over a batch.

        Args:
          logits: [n, classes].
          targets: probabilities [n, classes].
        """
        weights = jnp.ones((), targets.dtype)
        if self.class_weights is not None:
            weights = jnp.asarray([self.class_weights], targets.dtype)
        if self.kind == "bce":
            return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, targets) * weights)
        return optax.softmax_cross_entropy(logits, targets * weights).mean()


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A trained network whose probabilities are targets too (Hinton et al. 2015, section 2).

    Attributes:
      model: the network.
      preprocessing: how its images are prepared; they are resized to its size.
      temperature: divides both networks' logits, to soften the probabilities.
      weight: share of the teacher in the loss.
    """

    model: Network
    preprocessing: Preprocessing
    temperature: float = 2.0
    weight: float = 0.5

    def logits(self, variables: Any, pixels: Array) -> Array:
        """Compute the teacher's logits for RGB pixels [n, h, w, 3] in 0..255."""
        size = self.preprocessing.image_size
        shape = (pixels.shape[0], size, size, pixels.shape[-1])
        if pixels.shape != shape:
            pixels = jax.image.resize(pixels.astype(jnp.float32), shape, "linear")
        images = self.preprocessing.normalize(pixels)
        return jax.lax.stop_gradient(self.model.apply(variables, images, train=False))

    def blend(self, loss: Array, logits: Array, teacher_logits: Array) -> Array:
        """Mix the loss of the labels with the divergence from the teacher's probabilities.

        The divergence is multiplied by the square of the temperature, which keeps its gradient as
        large as that of the labels.
        """
        soft = jax.nn.log_softmax(teacher_logits / self.temperature)
        own = jax.nn.log_softmax(logits / self.temperature)
        divergence = optax.losses.kl_divergence_with_log_targets(own, soft).mean()
        return (1 - self.weight) * loss + self.weight * self.temperature**2 * divergence


def ranks(logits: Array, labels: Array) -> Array:
    """Count the other classes that are not below the label's: int32 [n], 0 for a hit.

    Ties and NaN count against the label, so constant logits score nothing.
    """
    own = jnp.take_along_axis(logits, labels[:, None], axis=1)
    return jnp.sum(~(logits < own), axis=1) - 1
