"""Our own exports, in the runtimes that they are for."""

import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flaxmobile.bench.candidates.base import Candidate, Missing, data, dtype, network
from flaxmobile.bench.job import Job
from flaxmobile.errors import InputError, pip_install
from flaxmobile.exporters.exporting import export
from flaxmobile.tasks import DETECTORS

_OUTPUT = "logits"


_LOST = 0.6
"""What 8 bits may lose in networks of random weights, of the largest logit.

MobileNet V3 large loses 0.34 in ONNX Runtime and 0.48 in LiteRT, others some hundredths; what
another network computes is 1 or more away.
"""


class Exported(Candidate):
    """A file that `flaxmobile.export` wrote."""

    format: str
    runtime: str
    """Module of the runtime's library."""
    extra = "export"
    """Name of the extra that installs it."""
    quantize: str | None = None

    def __init__(self, job: Job) -> None:
        if job.task != "inference":
            raise Missing("an exported file does not train")
        if job.model in DETECTORS:
            raise Missing("an exported detector returns boxes, not the offsets that are compared")
        if jax.default_backend() != "cpu" or dtype(job) != jnp.float32:
            raise Missing("exported files are measured in float32 and int8 on a CPU only")
        self._images = data(job)[0]
        model, variables = network(job)
        path = Path(tempfile.mkdtemp()) / "exported"  # in the benchmark's own folder
        try:
            library = self.open_library()
            export(
                model,
                variables,
                path,
                self.format,
                image_size=job.image_size,
                batch_size=job.batch_size,
                quantize=self.quantize,
                calibration=self._images if self.quantize == "int8" else None,
            )
        except ImportError as error:
            raise Missing(f"{pip_install(self.extra)}: {error}") from None
        except InputError as error:
            raise Missing(str(error)) from None
        self._size = path.stat().st_size
        self.load(library, path, job)

    def open_library(self) -> Any:
        """Import the runtime's library."""
        return importlib.import_module(self.runtime)

    def load(self, library: Any, path: Path, job: Job) -> None:
        """Open the file in its runtime."""
        raise NotImplementedError

    def file_size(self) -> int:
        """Bytes of the file."""
        return self._size

    def tolerance(self, job: Job) -> float:
        """Accept what 8 bits lose, where the file computes in them."""
        return _LOST if self.quantize == "int8" else super().tolerance(job)


class Litert(Exported):
    """LiteRT's interpreter."""

    format, runtime = "litert", "ai_edge_litert.interpreter"

    def load(self, library: Any, path: Path, job: Job) -> None:
        """Open the file."""
        interpreter = library.Interpreter(model_path=str(path), num_threads=job.threads)
        self._run = interpreter.get_signature_runner()
        self._images = self.as_input(self._run.get_input_details()["images"]["quantization"])

    def as_input(self, quantization: tuple[float, int]) -> np.ndarray:
        """Return the images as the file takes them."""
        return self._images

    def call(self) -> np.ndarray:
        """Infer."""
        logits: np.ndarray = self._run(images=self._images)[_OUTPUT]
        return logits


class LitertInt8(Litert):
    """LiteRT's interpreter on a file that computes in int8."""

    quantize = "int8"

    def as_input(self, quantization: tuple[float, int]) -> np.ndarray:
        """Quantize the images."""
        scale, zero = quantization
        return np.clip(np.rint(self._images / scale) + zero, -128, 127).astype(np.int8)

    def fetch(self, outputs: np.ndarray) -> np.ndarray:
        """Turn the integers into logits."""
        scale, zero = self._run.get_output_details()[_OUTPUT]["quantization"]
        return (outputs.astype(np.float32) - zero) * np.float32(scale)


class Onnx(Exported):
    """ONNX Runtime."""

    format, runtime = "onnx", "onnxruntime"

    def load(self, library: Any, path: Path, job: Job) -> None:
        """Open the file."""
        options = library.SessionOptions()
        options.intra_op_num_threads = job.threads
        options.add_session_config_entry("session.x64quantprecision", "1")  # no sum is cut off
        self._session = library.InferenceSession(str(path), options)

    def call(self) -> np.ndarray:
        """Infer."""
        logits: np.ndarray = self._session.run([_OUTPUT], {"images": self._images})[0]
        return logits


class OnnxInt8(Onnx):
    """ONNX Runtime on a file that computes in int8."""

    quantize = "int8"


class OpenVino(Exported):
    """OpenVINO on an ONNX file."""

    format, runtime, extra = "onnx", "openvino", "openvino"

    def open_library(self) -> Any:
        """Import the library; its telemetry, where found, forks this process to send statistics."""
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
        return super().open_library()

    def load(self, library: Any, path: Path, job: Job) -> None:
        """Open the file, for float32 also where the processor has a faster type."""
        core = library.Core()
        settings = {
            "INFERENCE_NUM_THREADS": job.threads,
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
        }
        model = core.compile_model(core.read_model(path.read_bytes()), "CPU", settings)
        self._request = model.create_infer_request()

    def call(self) -> np.ndarray:
        """Infer."""
        logits: np.ndarray = self._request.infer({"images": self._images})[_OUTPUT]
        return logits


class OpenVinoInt8(OpenVino):
    """OpenVINO on an ONNX file that computes in int8."""

    quantize = "int8"
