"""Checks of what a network can be exported with."""

from typing import Any

import jax
import numpy as np

from flaxmobile.errors import InputError
from flaxmobile.layers import Model
from flaxmobile.models.blazeface import BlazeFace
from flaxmobile.sizes import size_text
from flaxmobile.trees import Tree

_FLOAT16_MOST = float(np.finfo(np.float16).max)


def check_images(
    model: Model, size: tuple[int, int], batch_size: int | None, raw_images: bool
) -> None:
    """Raise InputError for images that the network does not take."""
    text = size_text(size)
    if min(size) < model.min_image_size:
        raise InputError(f"image_size is {text}; the network needs {model.min_image_size} or more")
    if batch_size is not None and batch_size < 1:
        raise InputError(
            f"batch_size is {batch_size}; accepted: 1 or more, or any number of images"
        )
    if raw_images and model.in_channels not in (1, 3):
        raise InputError(f"raw images are RGB, and the network takes {model.in_channels} channels")
    detects = isinstance(model, BlazeFace) and model.detector and not model.is_backbone
    if detects and set(size) != {model.table.image_size}:
        raise InputError(f"image_size is {text}; the detector takes {model.table.image_size}")


def check_quantize(rounds: bool, quantize: str | None, calibration: Any) -> None:
    """Raise InputError for weights trained to round, except in a file of those integers."""
    if rounds and (quantize != "int8" or calibration is not None):
        raise InputError(
            "the weights were trained with the ranges of an int8 file: export them to litert or "
            "onnx with quantize int8, without calibration"
        )


def check_float16(variables: Tree) -> None:
    """Raise InputError for numbers that are too large for float16."""
    most = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(variables))
    if not most <= _FLOAT16_MOST:
        raise InputError(
            f"float16 holds numbers up to {_FLOAT16_MOST:g}; the weights have {most:g}"
        )


def check_calibration(calibration: Any, images: jax.ShapeDtypeStruct) -> np.ndarray:
    """Return images for calibration; raise InputError where they are not as the network's."""
    wanted = f"images [k, {', '.join(map(str, images.shape[1:]))}] in {images.dtype}"
    if calibration is None:
        raise InputError(
            f"int8 needs images that show the ranges of the activations: calibration, {wanted}"
        )
    given = np.asarray(calibration)
    if given.ndim != 4 or given.shape[1:] != images.shape[1:] or not len(given):
        raise InputError(f"calibration has shape {list(given.shape)}; accepted: {wanted}")
    if given.dtype != images.dtype:
        raise InputError(f"calibration is in {given.dtype}; accepted: {wanted}")
    return given
