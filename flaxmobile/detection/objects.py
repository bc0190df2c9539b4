"""Objects in an image, by an SSDLite detector."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flaxmobile.detection.boxes import clip_boxes, decode_boxes
from flaxmobile.detection.images import check_image, check_share
from flaxmobile.detection.ssdlite import SSDLite
from flaxmobile.detection.suppression import Objects, select_objects
from flaxmobile.errors import InputError, check_value
from flaxmobile.preprocessing import Preprocessing

PREPROCESSING = Preprocessing(320, 320, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
"""torchvision's for SSDLite320."""


def detect_objects(
    model: SSDLite,
    variables: Any,
    image: Any,
    *,
    preprocessing: Preprocessing = PREPROCESSING,
    score_threshold: float = 0.001,
    iou_threshold: float = 0.55,
    max_objects: int = 300,
) -> Objects:
    """Find the objects in one image, as torchvision's SSDLite does.

    The whole image is resized to the size of the preprocessing, without antialiasing. The detector
    is compiled once, the resizing once per size of image.

    Args:
      model: `create_detector("ssdlite", …)`.
      variables: its trained variables.
      image: [h, w, 3], RGB, of any size: uint8, or floating point in 0..1. Values slightly outside,
        from bicubic resizing, are clipped.
      preprocessing: of the weights: size, mean and standard deviation.
      score_threshold: objects score more than this, 0 to 1. The default is for measuring; to show
        objects take 0.5 or so.
      iou_threshold: see `select_objects`.
      max_objects: most objects to return.

    Returns:
      The objects that were found, best first: boxes [objects, 4], (xmin, ymin, xmax, ymax) in
      pixels of the image; labels [objects], 1 and more; scores [objects].

    Raises:
      InputError: a wrong model, image or threshold.
    """
    if not isinstance(model, SSDLite):
        raise InputError(
            f'the model is {type(model).__name__}; accepted: create_detector("ssdlite", …)'
        )
    check_share("score_threshold", score_threshold)
    check_share("iou_threshold", iou_threshold)
    check_value("max_objects", max_objects, max_objects >= 1, "1 or more")
    pixels = check_image(image)
    height, width, _ = pixels.shape
    size = preprocessing.height_and_width
    resized = preprocessing.normalize(255 * _resize(pixels, size))
    found = _detect(model, max_objects, variables, resized, score_threshold, iou_threshold)
    boxes, labels, scores = (np.asarray(part[0]) for part in found)
    count = int((scores > 0).sum())
    ratios = np.asarray([width / size[1], height / size[0]] * 2, boxes.dtype)
    return Objects(boxes[:count] * ratios, labels[:count], scores[:count])


def find_objects(
    outputs: dict[str, Array],
    defaults: Array,
    image_size: tuple[int, int],
    *,
    score_threshold: float | Array = 0.001,
    iou_threshold: float | Array = 0.55,
    max_objects: int = 300,
) -> Objects:
    """Turn a detector's outputs for a batch into objects.

    Args:
      outputs: {"offsets": [n, boxes, 4], "logits": [n, boxes, classes]}.
      defaults: [boxes, 4], from `SSDLite.default_boxes`.
      image_size: (height, width) of the images that the detector saw; boxes end at their edges.
      score_threshold, iou_threshold, max_objects: see `select_objects`.

    Returns:
      [n, max_objects, …], best first, boxes in pixels of those images; zeros where there are fewer.
    """
    boxes = clip_boxes(decode_boxes(outputs["offsets"], defaults[None]), image_size)
    return select_objects(
        boxes,
        jax.nn.softmax(outputs["logits"]),
        max_objects=max_objects,
        score_threshold=score_threshold,
        iou_threshold=iou_threshold,
    )


@partial(jax.jit, static_argnums=1)
def _resize(pixels: Array, size: tuple[int, int]) -> Array:
    """Resize an image to [1, *size, 3]."""
    return jax.image.resize(pixels[None], (1, *size, 3), "linear", antialias=False)


@partial(jax.jit, static_argnums=(0, 1))
def _detect(
    model: SSDLite,
    max_objects: int,
    variables: Any,
    images: Array,
    score_threshold: Array,
    iou_threshold: Array,
) -> Objects:
    _, height, width, _ = images.shape
    size = (height, width)
    return find_objects(
        model.apply(variables, images),
        jnp.asarray(model.default_boxes(size)),
        size,
        max_objects=max_objects,
        score_threshold=score_threshold,
        iou_threshold=iou_threshold,
    )
