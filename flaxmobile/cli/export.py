"""`flaxmobile export`: weights as a file for another runtime."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from tyro.conf import FlagCreatePairsOff

from convert.published.loading import open_any_weights
from flaxmobile.command.flags import parse, reading_arguments
from flaxmobile.errors import InputError
from flaxmobile.exporters.exporting import check_request, export
from flaxmobile.exporters.program import resized
from flaxmobile.weights import Metadata
from train.data.samples import sample_images


@dataclasses.dataclass(frozen=True)
class Config:
    """Write a network as a file for another runtime, with normalization folded.

    Examples:
      flaxmobile export --weights runs/photos/best --format litert --output photos.tflite
      flaxmobile export --weights torchvision:mobilenet_v2 --format onnx --output v2.onnx
    """

    weights: Annotated[str, tyro.conf.arg(metavar="DIR|PUBLISHED")]
    """Weights directory: `best` of a training run, or what `python -m convert` wrote; or published
    weights such as torchvision:mobilenet_v2; `flaxmobile list --pretrained` shows them."""
    output: Path
    """File to write; with saved_model a directory."""
    format: Literal["litert", "onnx", "stablehlo", "saved_model"]
    """litert for phones (.tflite), onnx for ONNX Runtime, stablehlo for JAX without flaxmobile's
    networks, saved_model for TensorFlow Serving."""
    quantize: Literal["float16", "int8"] | None = None
    """For litert and onnx: float16 stores weights in half the bytes; int8 stores them in a quarter
    and computes in int8. It needs --calibrate, unless the weights were trained with
    --quantize int8."""
    calibrate: Annotated[str | None, tyro.conf.arg(metavar="FOLDER|DATASET")] = None
    """Images that show the ranges of the activations for int8: a folder of images, or a data set as
    training takes it, such as digits or folder:PATH."""
    calibration_images: int = 200
    """How many of them, evenly spaced. A range is the least and the largest number that occurs."""
    calibration_percentile: float = 100.0
    """Percent of them whose least number, and whose largest, is in a range; 99.5 cuts off what 1 of
    200 images reaches."""
    image_size: int | None = None
    """Side of the images in pixels; by default that of the weights."""
    batch_size: Annotated[str, tyro.conf.arg(metavar="N|dynamic")] = "1"
    """Images of a call; dynamic leaves the number open, where the format can."""
    raw_images: Annotated[bool, FlagCreatePairsOff] = False
    """Take uint8 images, resized and cut out, and normalize them inside; otherwise the images are
    normalized numbers."""
    probabilities: Annotated[bool, FlagCreatePairsOff] = False
    """Give the answer that predict prints instead of logits."""
    labels: Annotated[bool, FlagCreatePairsOff] = False
    """Put the names of the classes into the file."""

    @property
    def images(self) -> int | None:
        """Images of a call, None for any number."""
        if self.batch_size == "dynamic":
            return None
        if not self.batch_size.isdecimal() or int(self.batch_size) < 1:
            raise InputError(f"--batch-size is {self.batch_size}; accepted: 1 or more, or dynamic")
        return int(self.batch_size)

    def check_calibration(self) -> None:
        """Raise InputError for images to calibrate with where nothing is calibrated."""
        if self.calibrate is not None and self.quantize != "int8":
            raise InputError("--calibrate FOLDER|DATASET is for --quantize int8")
        if not 50 < self.calibration_percentile <= 100:
            raise InputError(
                f"--calibration-percentile is {self.calibration_percentile:g}; accepted: above 50, "
                "at most 100"
            )
        if self.calibration_images < 1:
            raise InputError(
                f"--calibration-images is {self.calibration_images}; accepted: 1 or more"
            )

    def calibration(self, metadata: Metadata) -> np.ndarray | None:
        """Return the images to calibrate with, as the file takes them."""
        if self.calibrate is None:
            return None
        preprocessing = resized(metadata, self.image_size).preprocessing
        images = sample_images(self.calibrate, preprocessing, self.calibration_images)
        return images if self.raw_images else preprocessing.normalize(images)


def main(prog: str, argv: Sequence[str]) -> None:
    """Write the file."""
    config = parse(Config, argv, prog)
    with reading_arguments(prog):
        batch_size = config.images
        config.check_calibration()
    check_request(
        config.output, config.format, batch_size, config.quantize
    )  # before the weights are fetched
    weights = open_any_weights(config.weights)
    if config.quantize == "int8" and config.calibrate is None and not weights.model.quantized:
        raise InputError(
            "--quantize int8 needs --calibrate FOLDER|DATASET, or weights that were trained with "
            "--quantize int8"
        )
    model, variables = weights.load()
    metadata = weights.metadata
    if config.labels and metadata.class_names is None:
        raise InputError(f"{config.weights} has no names of classes: leave out --labels")
    if not config.labels:
        metadata = dataclasses.replace(metadata, class_names=None)
    calibration = config.calibration(metadata)
    export(
        model,
        variables,
        config.output,
        config.format,
        metadata=metadata,
        image_size=config.image_size,
        batch_size=batch_size,
        raw_images=config.raw_images,
        probabilities=config.probabilities,
        quantize=config.quantize,
        calibration=calibration,
        calibration_percentile=config.calibration_percentile,
    )
    files = [config.output, *(p for p in config.output.rglob("*") if p.is_file())]
    megabytes = sum(path.stat().st_size for path in files if path.is_file()) / 1e6
    print(f"wrote {config.output}: {config.format}, {megabytes:.1f} MB")
    if calibration is not None:
        held = config.calibration_percentile
        ends = "least to largest" if held == 100 else f"the ends of {held:g} percent of them"
        print(f"int8: ranges of {len(calibration)} images of {config.calibrate}, {ends}")
    if config.quantize == "int8" and config.format == "onnx":
        print("int8: on x86 CPUs without VNNI set ONNX Runtime's session.x64quantprecision to 1")
