"""Faces from the outputs of a BlazeFace detector.

Paper: Bazarevsky et al., "BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs", 2019
(arXiv:1907.05047), sections 3.2 (anchors) and 3.3 (blending in place of suppression). Where the
paper is silent, this follows MediaPipe's short-range face detection: all anchors have size 1,
images are letterboxed, pixels are scaled to -1..1, and scores are computed from clipped logits.

Boxes are (ymin, xmin, ymax, xmax), keypoints (x, y) in the order of
`flaxmobile.models.blazeface_tables.KEYPOINTS`.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flaxmobile.detection.boxes import overlap
from flaxmobile.detection.images import check_image, check_share
from flaxmobile.errors import InputError, check_value
from flaxmobile.models.blazeface import BlazeFace
from flaxmobile.models.blazeface_tables import ANCHORS, VARIANTS

IMAGE_SIZE = 128
SCORE_CLIP = 100.0  # of the logits, MediaPipe


class Faces(NamedTuple):
    """Faces, or candidates for faces.

    Attributes:
      boxes: [..., 4], (ymin, xmin, ymax, xmax).
      keypoints: [..., 6, 2], (x, y).
      scores: [...], 0 to 1; 0 where there is no face.
    """

    boxes: Any
    keypoints: Any
    scores: Any


def make_anchors(image_size: int = IMAGE_SIZE, counts: Mapping[int, int] = ANCHORS) -> np.ndarray:
    """Place the anchors: [896, 4] for 128 pixels, (x, y, width, height) over the image's side.

    Anchors lie in the middle of cells: two per cell of the 16×16 map, then six per cell of the 8×8
    map, row by row, in the order of the network's heads. All have size 1: the paper's sizes only
    scale what the heads learn.

    Args:
      image_size: side of the images.
      counts: stride of a map -> anchors in each of its cells.

    Raises:
      InputError: a size that the maps' strides do not divide.
    """
    if image_size < 1 or image_size % max(counts):
        raise InputError(f"image_size is {image_size}; accepted: multiples of {max(counts)}")
    levels = []
    for stride, count in counts.items():
        middles = (np.arange(image_size // stride, dtype=np.float32) + 0.5) * stride / image_size
        y, x = np.meshgrid(middles, middles, indexing="ij")
        cells = np.stack([x, y, np.ones_like(x), np.ones_like(x)], -1).reshape(-1, 4)
        levels.append(np.repeat(cells, count, axis=0))
    return np.concatenate(levels)


def decode(outputs: dict[str, Array], anchors: Any, image_size: int = IMAGE_SIZE) -> Faces:
    """Turn the detector's outputs into a candidate per anchor, in shares of the image's side.

    Args:
      outputs: the model's {"boxes": [n, anchors, 16], "scores": [n, anchors]}. The 16 numbers are
        centre x, centre y, width, height, then x and y of each keypoint, in pixels; positions are
        relative to the anchor.
      anchors: from `make_anchors`.
      image_size: side of the images that the model saw.
    """
    anchors = jnp.asarray(anchors)
    raw = outputs["boxes"] / image_size  # [n, anchors, 16]
    middle, size = anchors[None, :, :2], anchors[None, :, 2:]
    points = raw.reshape(*raw.shape[:2], -1, 2)  # centre, size, keypoints
    centre = points[:, :, 0] * size + middle
    half = points[:, :, 1] * size / 2
    low, high = (centre - half)[..., ::-1], (centre + half)[..., ::-1]  # (y, x)
    keypoints = points[:, :, 2:] * size[:, :, None] + middle[:, :, None]
    scores = jax.nn.sigmoid(jnp.clip(outputs["scores"], -SCORE_CLIP, SCORE_CLIP))
    return Faces(jnp.concatenate([low, high], -1), keypoints, scores)


def blend(
    candidates: Faces,
    *,
    max_faces: int = 10,
    score_threshold: float | Array = 0.5,
    iou_threshold: float | Array = 0.3,
) -> Faces:
    """Average overlapping candidates, weighted by their scores (section 3.3).

    The best candidate of those left, and all that overlap it, become one face, which keeps the best
    score (as in MediaPipe); then the best of the rest, and so on.

    Args:
      candidates: [n, anchors, …], from `decode`.
      max_faces: how many faces to return; static.
      score_threshold: candidates below it are dropped.
      iou_threshold: intersection over union above which two candidates are the same face.

    Returns:
      [n, max_faces, …], best first; zeros where there are fewer faces.
    """
    one = partial(_blend_one, max_faces=max_faces)
    return jax.vmap(one, (0, None, None))(candidates, score_threshold, iou_threshold)


def _blend_one(
    candidates: Faces, score_threshold: Any, iou_threshold: Any, max_faces: int
) -> Faces:
    boxes, keypoints, scores = candidates
    places = jnp.arange(len(scores))

    def take(left: Array, _: None) -> tuple[Array, Faces]:
        best = jnp.argmax(jnp.where(left, scores, -1.0))
        same = (overlap(boxes[best], boxes) > iou_threshold) | (places == best)
        same &= left
        weights = jnp.where(same, scores, 0.0)
        # Where no candidate is left, or all scores are 0, the sum is 0 and so is the face.
        weights /= jnp.maximum(weights.sum(), jnp.finfo(scores.dtype).tiny)
        face = Faces(
            jnp.einsum("a,ai->i", weights, boxes, precision="highest"),
            jnp.einsum("a,akj->kj", weights, keypoints, precision="highest"),
            jnp.where(left[best], scores[best], 0.0),
        )
        return left & ~same, face

    _, faces = jax.lax.scan(take, scores >= score_threshold, None, length=max_faces)
    return faces


def detect_faces(
    model: BlazeFace,
    variables: Any,
    image: Any,
    *,
    score_threshold: float = 0.5,
    iou_threshold: float = 0.3,
    max_faces: int = 10,
) -> Faces:
    """Find the faces in one image.

    The image is scaled so that its longer side has 128 pixels, or 256 with variant
    "mediapipe_back", and is centred in a black square. The detector is compiled once, the scaling
    once per size of image.

    Args:
      model: `create_model("blazeface", detector=True)`.
      variables: its trained variables.
      image: [h, w, 3], RGB, of any size: uint8, or floating point in 0..1. Values slightly outside,
        from bicubic resizing, are clipped.
      score_threshold: least score of a face, 0 to 1.
      iou_threshold: see `blend`.
      max_faces: most faces to return.

    Returns:
      The faces that were found, best first, in pixels of the image: boxes [faces, 4] and keypoints
      [faces, 6, 2] may reach over its edges; scores [faces].

    Raises:
      InputError: a wrong model, image or threshold.
    """
    if not isinstance(model, BlazeFace) or not model.detector or model.out_strides is not None:
        raise InputError(
            f"the model is {type(model).__name__} without a detector; accepted: "
            'create_model("blazeface", detector=True)'
        )
    check_share("score_threshold", score_threshold)
    check_share("iou_threshold", iou_threshold)
    check_value("max_faces", max_faces, max_faces >= 1, "1 or more")
    pixels = check_image(image)
    height, width, _ = pixels.shape
    size = VARIANTS[model.variant].image_size
    scale = size / max(height, width)
    corner = np.asarray([size - height * scale, size - width * scale], np.float32) / 2
    square = _letterbox(pixels, jnp.full(2, scale, jnp.float32), corner, size)
    found = _detect(model, max_faces, variables, square, score_threshold, iou_threshold)
    boxes, keypoints, scores = (np.asarray(part[0]) for part in found)
    count = int((scores > 0).sum())
    y_x = corner.astype(boxes.dtype)
    return Faces(
        (boxes[:count] * size - np.tile(y_x, 2)) / scale,
        (keypoints[:count] * size - y_x[::-1]) / scale,
        scores[:count],
    )


@partial(jax.jit, static_argnums=3)
def _letterbox(pixels: Array, scale: Array, corner: Array, size: int = IMAGE_SIZE) -> Array:
    """Scale and shift an image into a black square: [1, size, size, 3] in -1..1."""
    shape = (size, size, 3)
    square = jax.image.scale_and_translate(pixels, shape, (0, 1), scale, corner, "linear")
    return 2 * square[None] - 1


@partial(jax.jit, static_argnums=(0, 1))
def _detect(
    model: BlazeFace,
    max_faces: int,
    variables: Any,
    images: Array,
    score_threshold: Array,
    iou_threshold: Array,
) -> Faces:
    size, counts = images.shape[1], VARIANTS[model.variant].anchors
    candidates = decode(model.apply(variables, images), make_anchors(size, counts), size)
    return blend(
        candidates,
        max_faces=max_faces,
        score_threshold=score_threshold,
        iou_threshold=iou_threshold,
    )
