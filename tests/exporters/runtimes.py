"""Exported files, run by the runtimes that they are for."""

from importlib.util import find_spec

import numpy as np
import onnxruntime
from ai_edge_litert.interpreter import Interpreter

from flaxmobile import load_exported


def run_litert(path, images):
    """Outputs by name of a .tflite file."""
    return Interpreter(model_path=str(path)).get_signature_runner()(images=images)


def run_onnx(path, images):
    """Outputs by name of an .onnx file."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")  # docs/guides/quantize.md
    session = onnxruntime.InferenceSession(path, options)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"images": images}), strict=True))


def run_stablehlo(path, images):
    """Outputs by name of a StableHLO file."""
    return load_exported(path)(images)


def run_saved_model(path, images):
    """Outputs by name of a SavedModel directory, by TensorFlow's own loader."""
    import tensorflow

    found = tensorflow.saved_model.load(str(path)).signatures["serving_default"](images=images)
    return {name: value.numpy() for name, value in found.items()}


RUNTIMES = {"litert": run_litert, "onnx": run_onnx, "stablehlo": run_stablehlo}
if find_spec("tensorflow"):  # large, and required by nothing here
    RUNTIMES["saved_model"] = run_saved_model
"""Format -> function of a file and images that gives {output: array}."""


def assert_close(found, expected, tolerance=1e-4):
    """Compare outputs by name, to a share of the largest number."""
    assert set(found) == set(expected)
    for name, value in expected.items():
        scale = np.abs(value).max()
        np.testing.assert_allclose(found[name], value, rtol=0, atol=tolerance * scale, err_msg=name)
