"""Classify image files, or their pixels."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from flaxmobile.errors import InputError
from flaxmobile.folding import fold_batch_norm
from flaxmobile.inference import jit_inference
from flaxmobile.layers import Network
from flaxmobile.outputs import OUTPUTS
from flaxmobile.preprocessing import Preprocessing, open_image, resize_shorter
from flaxmobile.segmentation import Segmenter
from flaxmobile.trees import Tree

_LONGEST = 16
"""Most times that an image may be longer than wide to be segmented: it is not cropped."""


def predict_images(
    model: Network,
    variables: Tree,
    paths: Sequence[Path],
    preprocessing: Preprocessing,
    output: str = "softmax",
    batch_size: int = 32,
) -> np.ndarray:
    """Classify image files, a batch at a time so that memory stays bounded.

    Args:
      model: a classifier.
      variables: of the model.
      paths: image files, at least one.
      preprocessing: the one that the weights expect.
      output: activation of the answer, see `flaxmobile.outputs`.
      batch_size: most images to hold at once.

    Returns:
      Probabilities [image, class], or numbers where output is "none"; float32.

    Raises:
      InputError: an image cannot be read, or gives values that are not finite.
    """
    if not model.folded:
        model, variables = fold_batch_norm(model, variables)

    infer, activation = jit_inference(model, variables), OUTPUTS[output]
    size, shape = min(batch_size, len(paths)), (*preprocessing.height_and_width, model.in_channels)
    rows = []
    for start in range(0, len(paths), size):
        chunk = paths[start : start + size]
        images = np.zeros((size, *shape), np.float32)  # the last batch is filled with zeros
        for i, path in enumerate(chunk):
            images[i] = preprocessing(open_image(path))
        rows.append(np.asarray(activation(infer(images)))[: len(chunk)])
    answers = np.concatenate(rows)
    for path, finite in zip(paths, np.isfinite(answers).all(1), strict=True):
        if not finite:
            raise InputError(f"{path} gives values that are not finite: check the weights")
    return answers


def segment_images(
    model: Segmenter, variables: Tree, paths: Sequence[Path], preprocessing: Preprocessing
) -> Iterator[np.ndarray]:
    """Give a class to every pixel of image files, one file at a time.

    The shorter side is resized as for the preprocessing's crop, and nothing is cut off, as
    torchvision does. The network is compiled once for each shape.

    Args:
      model: a segmenter.
      variables: of the model.
      paths: image files.
      preprocessing: the one that the weights expect.

    Yields:
      For each file, the class of every pixel of the image as it is upright: integers [h, w]. With a
      single class, 1 where its probability is above one half.

    Raises:
      InputError: an image cannot be read, is too long, or gives values that are not finite.
    """
    if not model.folded:
        model, variables = fold_batch_norm(model, variables)
    infer = jit_inference(model, variables)
    for path in paths:
        image = open_image(path)
        if max(image.size) > _LONGEST * min(image.size):
            raise InputError(
                f"{path} has {image.width}×{image.height} pixels; accepted: up to {_LONGEST} times "
                "as long as wide"
            )
        resized = resize_shorter(image, preprocessing.shorter_side, preprocessing.interpolation)
        logits = np.asarray(infer(preprocessing.normalize(np.asarray(resized))[None]))[0]
        if not np.isfinite(logits).all():
            raise InputError(f"{path} gives values that are not finite: check the weights")
        classes = logits.argmax(-1) if model.num_classes > 1 else logits[..., 0] > 0
        mask = Image.fromarray(classes.astype(np.int32))
        yield np.asarray(mask.resize(image.size, Image.Resampling.NEAREST))
