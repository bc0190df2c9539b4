"""Loss of BlazeFace's detector against boxes of faces.

We know of no publication of the matching and the loss that BlazeFace was trained with. These are
SSD's, whose anchors the paper (Bazarevsky et al. 2019, arXiv:1907.05047) adapts, with a logistic
loss for the one class; see `flaxmobile.detection.loss`. Boxes alone are compared: keypoints are not
trained.

The detector's own anchors all have size 1, with which nothing can be matched. For matching they
have the sizes that MediaPipe's options of short-range detection name (min_scale 0.1484375,
max_scale 0.75, four layers), and which `fixed_anchor_size` then replaces by 1 in decoding.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from flaxmobile.detection.boxes import MIDDLE_SCALE
from flaxmobile.detection.faces import IMAGE_SIZE, make_anchors
from flaxmobile.detection.loss import Losses, choose_hardest, match_boxes
from flaxmobile.models.blazeface_tables import ANCHORS

LEAST_OVERLAP = 0.35
"""Least intersection over union of an anchor with the face that it is trained to find.

SSD's 0.5 is too much: a square face of 19 pixels between anchors of that side, 8 pixels apart,
overlaps the nearest by 0.45, and faces are rarely square.
"""

_SCALES = np.linspace(0.1484375, 0.75, 4)
"""Sides of the layers' anchors, as shares of the image's; MediaPipe's."""


def make_matching_boxes(
    image_size: int = IMAGE_SIZE, counts: Mapping[int, int] = ANCHORS
) -> np.ndarray:
    """Place the anchors with sizes that faces are matched by: float32 [anchors, 4].

    Each layer has a square of its scale, and one between its scale and the next one's.

    Args:
      image_size: side of the images.
      counts: see `make_anchors`.

    Returns:
      (xmin, ymin, xmax, ymax) in pixels, in the order of `make_anchors`.
    """
    between = np.sqrt(_SCALES * [*_SCALES[1:], 1.0])
    sizes = np.split(np.stack([_SCALES, between], 1).ravel(), np.cumsum([*counts.values()])[:-1])
    cells = [(image_size // stride) ** 2 for stride in counts]
    half = np.concatenate([np.tile(*each) for each in zip(sizes, cells, strict=True)])[:, None] / 2
    middles = make_anchors(image_size, counts)[:, :2]
    return (np.concatenate([middles - half, middles + half], 1) * image_size).astype(np.float32)


def face_loss(outputs: dict[str, Array], defaults: Array, boxes: Array, labels: Array) -> Losses:
    """Compare the detector's outputs with the faces of a batch of images.

    Positions and sizes count as shares of the matched anchor's side, times `MIDDLE_SCALE`.

    Args:
      outputs: {"boxes": [n, anchors, 16], "scores": [n, anchors]}, see `decode`.
      defaults: [anchors, 4], from `make_matching_boxes`.
      boxes: [n, faces, 4], (xmin, ymin, xmax, ymax) in pixels of the images that the detector saw.
      labels: int [n, faces], 1; 0 where an image has fewer faces.
    """
    matches = jax.vmap(match_boxes, (None, 0, 0, None))(defaults, boxes, labels, LEAST_OVERLAP)
    matched = matches >= 0  # [n, anchors]
    own = jnp.take_along_axis(boxes, jnp.maximum(matches, 0)[:, :, None], 1)
    corners = own - defaults[None]
    shift = (corners[..., :2] + corners[..., 2:]) / 2
    goals = jnp.concatenate([shift, own[..., 2:] - own[..., :2]], -1)  # pixels, as the outputs
    sides = jnp.tile(defaults[:, 2:] - defaults[:, :2], 2)
    errors = (outputs["boxes"][..., :4] - goals) / sides[None] * MIDDLE_SCALE
    offsets = optax.losses.huber_loss(errors).sum(-1)
    entropies = optax.losses.sigmoid_binary_cross_entropy(outputs["scores"], matched)
    counted = choose_hardest(entropies, matched)
    number = jnp.maximum(matched.sum(), 1)
    return Losses((offsets * matched).sum() / number, (entropies * counted).sum() / number)
