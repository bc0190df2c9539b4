"""What training minimizes and measures: the protocol of all tasks, and classification's."""

import dataclasses
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp
import optax
from jax import Array

from flaxmobile.layers import Network
from flaxmobile.preprocessing import Preprocessing


class Criterion(Protocol):
    """Loss of a task, and what is measured beside it.

    Labels are an array [n, …] or a dictionary of them, as the task's reader gives them; outputs are
    those of the network.
    """

    def targets(self, labels: Any, classes: int, dtype: Any, /) -> Any:
        """Turn the labels of a batch into targets, arrays [n, …] too."""

    def __call__(self, outputs: Any, targets: Any, /) -> Array:
        """Average the loss over a batch, or over a part of it on one device."""

    def measure(self, outputs: Any, targets: Any, /) -> dict[str, Array]:
        """Compute the training metrics that are logged beside the loss."""

    def judge(self, outputs: Any, labels: Any, /) -> dict[str, Array]:
        """Compute metrics and predictions of each image: arrays [n, …] by name, with "loss"."""


@dataclasses.dataclass(frozen=True)
class Loss:
    """How far the logits of a classifier are from targets.

    Attributes:
      kind: "softmax" for cross entropy; "bce" for binary cross entropy of every class, averaged
        over the classes (as timm's).
      label_smoothing: share of each label that is spread over all classes.
      class_weights: factor of each class in the loss; None weighs all alike.
      multi_label: whether an image may have several labels.
    """

    kind: Literal["softmax", "bce"] = "softmax"
    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] | None = None
    multi_label: bool = False

    def targets(self, labels: Array, classes: int, dtype: Any) -> Array:
        """Turn labels [n], or 0 and 1 [n, classes], into smoothed probabilities [n, classes]."""
        if self.multi_label:
            sharp = labels.astype(dtype)
        else:
            sharp = jax.nn.one_hot(labels, classes, dtype=dtype)
        return optax.smooth_labels(sharp, self.label_smoothing)

    def labels(self, targets: Array) -> Array:
        """Return the labels of targets: the largest, or those above one half."""
        return targets > 0.5 if self.multi_label else jnp.argmax(targets, axis=-1)

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

    def measure(self, logits: Array, targets: Array) -> dict[str, Array]:
        """Compute the accuracy and, where there are more than 5 classes, top5."""
        rank = ranks(logits, self.labels(targets))
        hits = {"accuracy": jnp.mean(rank < 1, dtype=targets.dtype)}
        if logits.shape[1] > 5:
            hits["top5"] = jnp.mean(rank < 5, dtype=targets.dtype)
        return hits

    def judge(self, logits: Array, labels: Array) -> dict[str, Array]:
        """Compute loss and prediction of each image.

        Returns:
          [n] each: the loss (without smoothing and weights of classes), the rank of the label (0 is
          a hit, see `ranks`) and the predicted class; of images that may have several labels also
          the "scores", the logits [n, classes].
        """
        plain = Loss(self.kind, multi_label=self.multi_label)
        targets = plain.targets(labels, logits.shape[-1], logits.dtype)
        judged = {
            "loss": jax.vmap(plain)(logits[:, None], targets[:, None]),
            "rank": ranks(logits, labels),
            "predicted": jnp.argmax(logits, axis=-1),
        }
        return {**judged, "scores": logits} if plain.multi_label else judged


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
        size = self.preprocessing.side
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

    Ties and NaN count against the label, so constant logits score nothing. Of several labels,
    given as [n, classes], the highest counts.
    """
    if labels.ndim == 2:
        own = jnp.max(logits, axis=1, keepdims=True, where=labels > 0, initial=-jnp.inf)
        return jnp.sum(~(logits < own) & ~(labels > 0), axis=1)
    own = jnp.take_along_axis(logits, labels[:, None], axis=1)
    return jnp.sum(~(logits < own), axis=1) - 1
