"""LiteRT (TFLite), through litert-converter and without TensorFlow."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from flaxmobile.errors import InputError, first_line, pip_install, shorten
from flaxmobile.exporters.attachments import DESCRIPTION, attach, to_text
from flaxmobile.exporters.litert.metadata import NAME, build_metadata
from flaxmobile.exporters.litert.quantization import halve_weights, to_integers
from flaxmobile.exporters.program import IMAGES, Program

_LABELS = "labels.txt"
_SIGNATURE = "serving_default"
# Each activation is a function of its own, which the converter does not look into.
_PREPARATION = "builtin.module(inline,canonicalize,symbol-dce)"


def write(program: Program, path: Path) -> None:
    """Write a .tflite file with one signature, metadata, and the labels where they are known.

    Raises:
      InputError: a library is missing, or LiteRT lacks an operator of the program.
    """
    names = program.metadata.class_names
    exported = jax.export.export(jax.jit(program.function))(program.images)
    labels = None if names is None else _LABELS
    flatbuffer = _convert(
        str(exported.mlir_module()),
        list(program.outputs),
        build_metadata(program, labels),
        integers=program.rounds,
    )
    _check_operators(flatbuffer)
    if program.quantize == "float16":
        flatbuffer = halve_weights(flatbuffer)
    if program.calibration is not None:
        percentile = program.calibration_percentile
        flatbuffer = to_integers(flatbuffer, _SIGNATURE, program.calibration, percentile)
    from flaxmobile.exporters.litert.packing import pack  # of flatbuffers, which are there by now

    path.write_bytes(pack(flatbuffer))
    files = {DESCRIPTION: to_text(program.describe())}
    attach(path, files if names is None else {_LABELS: "\n".join(names) + "\n", **files})


def _convert(stablehlo: str, outputs: Sequence[str], metadata: bytes, *, integers: bool) -> bytes:
    """Turn the text of a StableHLO module with native convolutions into a flatbuffer.

    With `integers`, numbers that the module rounds by "quant.fake_quant" become int8.
    """
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # the library announces oneDNN on stderr
    try:
        from litert_converter.mlir import ir, passmanager
        from litert_converter.mlir._mlir_libs import converter_api_ext as converter
    except ImportError as error:
        raise InputError(_missing(error)) from None
    config: Any = converter.ConvertToTFLConfig()
    config.model_origin_framework = "JAX"
    if integers:
        config.qdq_conversion_mode, config.strict_qdq_mode = "STRICT", True
    context = ir.Context()
    converter.prepare_mlir_context(context)
    with context, ir.Location.unknown():
        module = ir.Module.parse(stablehlo)
        operation = module.operation
        passmanager.PassManager.parse(_PREPARATION).run(operation)
        converter.set_signature(
            operation,
            signature_name=_SIGNATURE,
            input_names=[IMAGES],
            output_names=list(outputs),
        )
        entry = {NAME: ir.StringAttr.get(metadata)}
        operation.attributes["tfl.metadata"] = ir.DictAttr.get(entry)
        try:
            converter.run_convert_to_tfl_passes(module, passmanager.PassManager(), config)
            return bytes(converter.export_flatbuffer_to_bytes(operation))
        except Exception as error:  # MLIR's own, which is no public name
            reason = shorten([str(error)], longest=200)
            raise InputError(f"LiteRT cannot express the network: {reason}") from error


def _missing(error: ImportError) -> str:
    # litert-converter pins an xdsl that excludes the typing-extensions of tyro and chex. Nothing
    # here needs xdsl, but pip does not resolve the two together.
    return (
        f"LiteRT files need litert-converter ({first_line(error)}): {pip_install('export')} "
        "&& pip install --no-deps litert-converter"
    )


def _check_operators(flatbuffer: bytes) -> None:
    """Refuse operators that only the interpreter's CPU fallback, or nothing, can run."""
    foreign = sorted(name for name in set(operators(flatbuffer)) if _is_foreign(name))
    if foreign:
        raise InputError(f"LiteRT has no operator for {', '.join(foreign)} of the network")


def _is_foreign(name: str) -> bool:
    return name == "CUSTOM" or name.startswith("STABLEHLO_")


def operators(flatbuffer: bytes) -> list[str]:
    """List the operators of a .tflite file in order."""
    from litert_converter import schema_py_generated as schema

    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if name[0] != "_"}
    model = schema.Model.GetRootAs(flatbuffer)
    graph = model.Subgraphs(0)
    codes = (model.OperatorCodes(i) for i in range(model.OperatorCodesLength()))
    used = [names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())] for code in codes]
    return [used[graph.Operators(i).OpcodeIndex()] for i in range(graph.OperatorsLength())]
