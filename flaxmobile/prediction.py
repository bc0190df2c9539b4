"""Classify images of files or in memory, or their pixels."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from flaxmobile.errors import InputError
from flaxmobile.folding import fold_batch_norm
from flaxmobile.images import open_image
from flaxmobile.inference import jit_inference
from flaxmobile.layers import Network
from flaxmobile.outputs import OUTPUTS
from flaxmobile.preprocessing import Preprocessing, resize_shorter
from flaxmobile.segmentation import Segmenter
from flaxmobile.trees import Tree

_LONGEST = 16
"""Most times that an image may be longer than wide to be segmented: it is not cropped."""


@dataclasses.dataclass(frozen=True, eq=False)
class Frame:
    """An RGB image in memory.

    Attributes:
      name: of what it comes from.
      image: upright.
      time: seconds since the start of a video; None for a single image.
    """

    name: str
    image: Image.Image
    time: float | None = None

    def __str__(self) -> str:
        return self.name if self.time is None else f"{self.name} at {self.time:.2f} s"


def as_image(image: Path | Frame) -> Image.Image:
    """Return an image as RGB, read from its file if it is not in memory.

    Raises:
      InputError: the file cannot be read.
    """
    return image.image if isinstance(image, Frame) else open_image(image)


def predict_images(
    model: Network,
    variables: Tree,
    images: Iterable[Path | Frame],
    preprocessing: Preprocessing,
    output: str = "softmax",
    batch_size: int = 32,
) -> Iterator[np.ndarray]:
    """Classify images, a batch at a time so that memory stays bounded.

    Args:
      model: a classifier.
      variables: of the model.
      images: files, or images in memory.
      preprocessing: the one that the weights expect.
      output: activation of the answer, see `flaxmobile.outputs`.
      batch_size: most images to hold at once.

    Yields:
      For each image, probabilities [class], or numbers where output is "none"; float32.

    Raises:
      InputError: an image cannot be read, or gives values that are not finite.
    """
    if not model.folded:
        model, variables = fold_batch_norm(model, variables)

    infer, activation = jit_inference(model, variables), OUTPUTS[output]
    shape = (*preprocessing.height_and_width, model.in_channels)
    remaining, size = iter(images), 0
    while True:
        names, batch = [], []
        for image in itertools.islice(remaining, size or batch_size):
            names.append(str(image))
            batch.append(preprocessing(as_image(image)))
        if not names:
            return
        size = size or len(names)
        pixels = np.zeros((size, *shape), np.float32)  # the last batch is filled with zeros
        pixels[: len(batch)] = batch
        for name, answer in zip(names, np.asarray(activation(infer(pixels))), strict=False):
            if not np.isfinite(answer).all():
                raise InputError(f"{name} gives values that are not finite: check the weights")
            yield answer


def segment_images(
    model: Segmenter,
    variables: Tree,
    images: Iterable[Path | Frame],
    preprocessing: Preprocessing,
) -> Iterator[np.ndarray]:
    """Give a class to every pixel of images, one image at a time.

    The shorter side is resized as for the preprocessing's crop, and nothing is cut off, as
    torchvision does. The network is compiled once for each shape.

    Args:
      model: a segmenter.
      variables: of the model.
      images: files, or images in memory.
      preprocessing: the one that the weights expect.

    Yields:
      For each image, the class of every pixel as it is upright: integers [h, w]. With a single
      class, 1 where its probability is above one half.

    Raises:
      InputError: an image cannot be read, is too long, or gives values that are not finite.
    """
    if not model.folded:
        model, variables = fold_batch_norm(model, variables)
    infer = jit_inference(model, variables)
    for each in images:
        image = as_image(each)
        if max(image.size) > _LONGEST * min(image.size):
            raise InputError(
                f"{each} has {image.width}×{image.height} pixels; accepted: up to {_LONGEST} times "
                "as long as wide"
            )
        resized = resize_shorter(image, preprocessing.shorter_side, preprocessing.interpolation)
        logits = np.asarray(infer(preprocessing.normalize(np.asarray(resized))[None]))[0]
        if not np.isfinite(logits).all():
            raise InputError(f"{each} gives values that are not finite: check the weights")
        classes = logits.argmax(-1) if model.num_classes > 1 else logits[..., 0] > 0
        mask = Image.fromarray(classes.astype(np.int32))
        yield np.asarray(mask.resize(image.size, Image.Resampling.NEAREST))
