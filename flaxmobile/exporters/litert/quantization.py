"""Smaller .tflite files, through ai-edge-quantizer."""

import contextlib
import io

from flaxmobile.errors import InputError


def halve_weights(flatbuffer: bytes) -> bytes:
    """Store weights as float16, which an operator before each layer widens: phones' GPUs skip it.

    Raises:
      InputError: ai-edge-quantizer is not installed.
    """
    try:
        from ai_edge_quantizer import qtyping, quantizer
        from ai_edge_quantizer.algorithm_manager import AlgorithmName
    except ImportError:
        raise InputError(
            "smaller LiteRT files need ai-edge-quantizer: pip install 'flaxmobile[quantize]'"
        ) from None
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
    report = io.StringIO()  # its figures and progress
    with contextlib.redirect_stdout(report), contextlib.redirect_stderr(report):
        return bytes(work.quantize().quantized_model)
