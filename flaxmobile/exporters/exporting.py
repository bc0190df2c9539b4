"""Write a network in the format of another runtime."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp

from flaxmobile.errors import InputError, check_choice
from flaxmobile.exporters import saved_model, stablehlo
from flaxmobile.exporters.litert import writing as litert
from flaxmobile.exporters.onnx import writing as onnx
from flaxmobile.exporters.program import QUANTIZE, Program, build_program
from flaxmobile.files import written_at_once
from flaxmobile.layers import Model
from flaxmobile.trees import Tree
from flaxmobile.weights import Metadata


class Format(NamedTuple):
    """A file format.

    Attributes:
      write: writes a program to a path.
      options: fields of the model that its programs need.
      takes_any_batch: whether the number of images may stay open.
      quantize: types in which its files can store weights.
    """

    write: Callable[[Program, Path], None]
    options: Mapping[str, Any] = {}
    takes_any_batch: bool = True
    quantize: tuple[str, ...] = ()


_NATIVE = {"native": True, "dtype": jnp.float32}
"""XLA's own operations, which converters know, in the type that phones and servers compute in."""

FORMATS: Mapping[str, Format] = {
    "litert": Format(litert.write, _NATIVE, takes_any_batch=False, quantize=QUANTIZE),
    "onnx": Format(onnx.write, _NATIVE, quantize=QUANTIZE),
    "stablehlo": Format(stablehlo.write),
    "saved_model": Format(saved_model.write),
}
"""Name -> format."""


def export(
    model: Model,
    variables: Tree,
    output: str | os.PathLike[str],
    format: str = "litert",
    *,
    metadata: Metadata | None = None,
    image_size: int | None = None,
    batch_size: int | None = 1,
    raw_images: bool = False,
    probabilities: bool = False,
    quantize: str | None = None,
    calibration: Any = None,
    calibration_percentile: float = 100.0,
) -> None:
    """Write a network as a file for another runtime; it appears complete or not at all.

    Normalization is folded. Images are [n, h, w, c] in every format. Outputs have names: "logits"
    or "probabilities" of a classifier or segmenter, "features" without classes, "stride32" and so
    on of a backbone, and of a detector "boxes", "scores" and, of faces, "keypoints" of all anchors,
    decoded.

    Args:
      model: a classifier, backbone, segmenter or detector.
      variables: of the model.
      output: file to write; for "saved_model" a directory.
      format: "litert" (phones), "onnx", "stablehlo" (read by `load_exported`) or "saved_model".
      metadata: of the weights, see `load_metadata`; it goes into the file.
      image_size: side of the images in pixels; by default that of the metadata's preprocessing.
      batch_size: number of images of a call; None for any.
      raw_images: take uint8 images in RGB, and normalize them inside. Images are resized and cut
        out before, by `metadata.preprocessing.crop`.
      probabilities: apply the metadata's output activation to the logits.
      quantize: "float16" halves a LiteRT or ONNX file; the arithmetic stays in float32. "int8"
        makes it a quarter as large; it computes in int8, in LiteRT inputs and outputs included,
        except that raw images stay uint8.
      calibration: for int8, images [k, h, w, c] as the file takes them: uint8 if they are raw,
        otherwise normalized. A hundred of those that the network was trained on are enough. Each
        activation's range is the least and the largest number that they give.
      calibration_percentile: percent of these images whose least number, and whose largest, is in
        the range; below 100, what few images reach is cut off.

    Raises:
      InputError: the output exists, a library is missing, or the network or the format does not
        take what is asked.
    """
    output = Path(output)
    kind = check_request(output, format, batch_size, quantize)
    program = build_program(
        model,
        variables,
        metadata or Metadata(),
        image_size=image_size,
        batch_size=batch_size,
        raw_images=raw_images,
        probabilities=probabilities,
        quantize=quantize,
        calibration=calibration,
        calibration_percentile=calibration_percentile,
        **kind.options,
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    with written_at_once(output) as draft:
        kind.write(program, draft)


def check_request(
    output: Path, format: str, batch_size: int | None, quantize: str | None
) -> Format:
    """Check what can be checked without the network, and return the format.

    Raises:
      InputError: as `export`.
    """
    check_choice("format", format, FORMATS)
    kind = FORMATS[format]
    if output.exists():
        raise InputError(f"{output} exists already; remove it or choose another output")
    if batch_size is None and not kind.takes_any_batch:
        raise InputError(f"{format} has no dynamic batch: give the number of images of a call")
    if quantize not in (None, *kind.quantize):
        accepted = ", ".join(kind.quantize) or "none"
        raise InputError(f"quantize is {quantize}; accepted for {format}: {accepted}")
    return kind
