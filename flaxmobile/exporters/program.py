"""A network as a function of images alone: what every format is written from."""

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from flaxmobile.detection import SSDLite, decode, make_anchors
from flaxmobile.detection.boxes import clip_boxes, decode_boxes
from flaxmobile.errors import InputError, check_value
from flaxmobile.exporters.checks import (
    check_calibration,
    check_float16,
    check_images,
    check_quantize,
)
from flaxmobile.exporters.equalization import correct_biases, equalize
from flaxmobile.folding import fold_batch_norm
from flaxmobile.layers import Model
from flaxmobile.layers.resizing import composite_resizing
from flaxmobile.outputs import OUTPUTS, default_output
from flaxmobile.trees import Tree
from flaxmobile.versions import __version__
from flaxmobile.weights import Metadata

IMAGES = "images"
"""Name of the input of every exported file."""
QUANTIZE = ("float16", "int8")
"""Types in which a file can store weights; int8 is that of its arithmetic too."""


@dataclasses.dataclass(frozen=True)
class Program:
    """A network as a function of images alone, and what its file says about it.

    Attributes:
      function: images -> {name: output}; the network's numbers are constants of it.
      images: shape [n, h, w, c] and dtype of the images; n is symbolic for any number of images.
      network: name of the network's class.
      metadata: preprocessing of the images, names of the classes, source of the numbers.
      answer: activation that is part of the function, or "none".
      quantize: type in which the file stores weights, one of `QUANTIZE`; None for theirs.
      rounds: the function rounds to the integers of an int8 file itself, as it was trained to.
      calibration: images [k, h, w, c], as the function takes them, that show the ranges of its
        numbers for int8.
      calibration_percentile: percent of these images whose least and largest numbers a range holds.
    """

    function: Callable[[Array], dict[str, Array]]
    images: jax.ShapeDtypeStruct
    network: str
    metadata: Metadata
    answer: str
    quantize: str | None = None
    calibration: np.ndarray | None = None
    rounds: bool = False
    calibration_percentile: float = 100.0

    @property
    def is_raw(self) -> bool:
        """Whether images are uint8, and normalized by the function."""
        return self.images.dtype == jnp.uint8

    @functools.cached_property
    def outputs(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shape and dtype of every output, by name, in the order of the function's results."""
        return dict(jax.eval_shape(self.function, self.images))

    def describe(self) -> dict[str, Any]:
        """Return what the file says about itself, as JSON values."""
        metadata = self.metadata
        return {
            "library": f"flaxmobile {__version__}",
            "network": self.network,
            "raw_images": self.is_raw,
            "answer": self.answer,
            "quantize": self.quantize,
            "output": metadata.output,
            "preprocessing": metadata.preprocessing.to_json(),
            "class_names": metadata.class_names,
            "source": metadata.source,
        }

    def describe_in_text(self) -> dict[str, str]:
        """Return what the file says about itself as words, or JSON where it is no word."""
        facts = self.describe()
        return {
            k: v if isinstance(v, str) else json.dumps(v, default=dict) for k, v in facts.items()
        }


def build_program(
    model: Model,
    variables: Tree,
    metadata: Metadata,
    *,
    image_size: int | None = None,
    batch_size: int | None = 1,
    raw_images: bool = False,
    probabilities: bool = False,
    quantize: str | None = None,
    calibration: np.ndarray | None = None,
    calibration_percentile: float = 100.0,
    **options: Any,
) -> Program:
    """Make a function of images from a network: normalization folded, outputs named.

    The output of a classifier or segmenter is called "logits" or "probabilities", pooled features
    "features", a backbone's maps "stride32" and so on, or like their taps. A detector's anchors are
    decoded, see `flaxmobile.detection.decode`: "boxes", "keypoints" and "scores". SSDLite's boxes
    are in pixels of its images, its scores those of all classes: suppression is left to the user.

    Args:
      model: a classifier, backbone, segmenter or detector.
      variables: of the model.
      metadata: of the weights.
      image_size: side of the images; by default the size of the preprocessing.
      batch_size: number of images; None for any.
      raw_images: take uint8 images in RGB, and normalize them inside.
      probabilities: apply the activation of `metadata.output` to logits.
      quantize, calibration, calibration_percentile: see `Program`.
      **options: fields of the model to set, such as `native=True`.

    Raises:
      InputError: a size that the network does not take, or an option that it cannot have.
    """
    rounds = model.quantized
    check_quantize(rounds, quantize, calibration)
    held = calibration_percentile
    check_value("calibration_percentile", held, 50 < held <= 100, "above 50, at most 100")
    if not model.folded:
        model, variables = fold_batch_norm(model, variables)
    model = model.clone(**options)
    metadata = _with_names_of(model, resized(metadata, image_size))
    preprocessing = metadata.preprocessing.for_channels(model.in_channels)
    metadata = dataclasses.replace(metadata, preprocessing=preprocessing)
    size = preprocessing.height_and_width
    answer = _answer(model, metadata, probabilities)
    check_images(model, size, batch_size, raw_images)
    if quantize == "float16":
        check_float16(variables)

    def apply(variables: Tree, images: Array) -> Any:
        return model.apply(variables, preprocessing.normalize(images) if raw_images else images)

    (n,) = jax.export.symbolic_shape("n") if batch_size is None else (batch_size,)
    dtype = jnp.uint8 if raw_images else jnp.float32
    images = jax.ShapeDtypeStruct((n, *size, 3 if raw_images else model.in_channels), dtype)
    calibrates = quantize == "int8" and not rounds
    shown = check_calibration(calibration, images) if calibrates else None
    if shown is not None:
        variables = correct_biases(apply, equalize(apply, variables, shown), shown)

    def function(images: Array) -> dict[str, Array]:
        with composite_resizing(model.native):
            outputs = apply(variables, images)
        return _named(model, outputs, size, answer)

    network = type(model).__name__
    return Program(function, images, network, metadata, answer, quantize, shown, rounds, held)


def resized(metadata: Metadata, image_size: int | None) -> Metadata:
    """Let images be of another size, cut out of what they are resized to in the same proportion."""
    own = metadata.preprocessing
    if image_size in (None, own.image_size):
        return metadata
    return dataclasses.replace(metadata, preprocessing=own.with_side(image_size))


def _with_names_of(model: Model, metadata: Metadata) -> Metadata:
    """Keep the names of classes where they name an output."""
    if not model.gives_logits:
        return dataclasses.replace(metadata, class_names=None)
    metadata.check_names(model.num_classes)
    return metadata


def _answer(model: Model, metadata: Metadata, probabilities: bool) -> str:
    if not probabilities:
        return "none"
    if not model.gives_logits:
        raise InputError("probabilities are those of a classifier, and the network gives no logits")
    return metadata.output or default_output(model.num_classes)


def _named(model: Model, outputs: Any, size: tuple[int, int], answer: str) -> dict[str, Array]:
    if model.is_backbone:
        return {f"stride{k}" if isinstance(k, int) else k: x for k, x in outputs.items()}
    if isinstance(model, SSDLite):
        defaults = model.default_boxes(size)[None]
        boxes = clip_boxes(decode_boxes(outputs["offsets"], defaults), size)
        return {"boxes": boxes, "scores": jax.nn.softmax(outputs["logits"])}
    if isinstance(outputs, Mapping):  # BlazeFace's regressors and scores
        anchors = make_anchors(size[0], model.table.anchors)
        return decode(dict(outputs), anchors, size[0])._asdict()
    if not model.gives_logits:
        return {"features": outputs}
    return {"logits" if answer == "none" else "probabilities": OUTPUTS[answer](outputs)}
