"""Smaller .tflite files, through ai-edge-quantizer."""

import contextlib
import io
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from flaxmobile.cores import usable_cores
from flaxmobile.errors import InputError, first_line, pip_install
from flaxmobile.exporters.program import IMAGES


def halve_weights(flatbuffer: bytes) -> bytes:
    """Store weights as float16, which an operator before each layer widens: phones' GPUs skip it.

    Raises:
      InputError: ai-edge-quantizer is not installed.
    """
    quantizer = _library()
    from ai_edge_quantizer import qtyping
    from ai_edge_quantizer.algorithm_manager import AlgorithmName

    half = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
    work = quantizer.Quantizer(flatbuffer)
    work.update_quantization_recipe(
        regex=".*",
        operation_name=qtyping.TFLOperationName.ALL_SUPPORTED,
        algorithm_key=AlgorithmName.FLOAT_CASTING,
        op_config=qtyping.OpQuantizationConfig(
            weight_tensor_config=half,
            compute_precision=qtyping.ComputePrecision.FLOAT,
            explicit_dequantize=True,
        ),
    )
    with _silence():
        return bytes(work.quantize().quantized_model)


def to_integers(
    flatbuffer: bytes, signature: str, images: np.ndarray, percentile: float = 100.0
) -> bytes:
    """Compute in int8, inputs and outputs included: a scale for each output channel of a kernel.

    The range of every activation is the least and the largest number that the images give.

    Args:
      flatbuffer: of a .tflite file.
      signature: name of its function.
      images: [n, h, w, c], as the file takes them.
      percentile: percent of the images whose least number, and whose largest, is in the range.

    Raises:
      InputError: ai-edge-quantizer is not installed, or cannot quantize the network.
    """
    quantizer = _library()
    from ai_edge_quantizer import calibrator, recipe, recipe_manager

    settings, manager = recipe.static_wi8_ai8(), recipe_manager.RecipeManager()
    manager.load_quantization_recipe(settings)
    data = [{IMAGES: image[None]} for image in images]
    with _silence():
        try:
            # `Quantizer.calibrate` averages the ranges of the images, and cuts off what is wider.
            ranges = calibrator.Calibrator(flatbuffer, usable_cores(), qsv_update_func=_append)
            ranges.calibrate({signature: data}, manager)
            seen = ranges.get_model_qsvs()
            joined = {name: _join(each, percentile) for name, each in seen.items()}
            return bytes(quantizer.Quantizer(flatbuffer, settings).quantize(joined).quantized_model)
        except (ValueError, RuntimeError) as error:
            reason = first_line(error)
            raise InputError(f"the network cannot be computed in int8: {reason}") from error


_Range = dict[str, Any]
"""An activation's "min" and "max", or lists of those of several images."""
_ENDS = ("min", "max")


def _append(seen: _Range, of_an_image: _Range) -> _Range:
    """Add the range that an image gives to those of the images before it."""
    before = {end: seen[end] if isinstance(seen[end], list) else [seen[end]] for end in _ENDS}
    return {end: [*before[end], of_an_image[end]] for end in _ENDS}


def _join(seen: _Range, percentile: float) -> _Range:
    """Return the range that holds the ends of a percentage of the images."""
    if not isinstance(seen.get("min"), list):  # a constant's, or of one image
        return seen
    shares = zip(_ENDS, (100 - percentile, percentile), strict=True)
    return {
        end: np.percentile(seen[end], share, axis=0).astype(np.float32) for end, share in shares
    }


def _library() -> Any:
    try:
        from ai_edge_quantizer import quantizer
    except ImportError:
        raise InputError(
            f"smaller LiteRT files need ai-edge-quantizer: {pip_install('quantize')}"
        ) from None
    return quantizer


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep figures, progress, and a warning about the calibration's memory to the library."""
    report = io.StringIO()
    with (
        contextlib.redirect_stdout(report),
        contextlib.redirect_stderr(report),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield
