"""The library and its peers: the same task for each, each in its best form."""

from collections.abc import Callable, Mapping

from flaxmobile.bench.candidates import pipelines
from flaxmobile.bench.candidates.base import Candidate, Missing
from flaxmobile.bench.candidates.exported import (
    Litert,
    LitertInt8,
    Onnx,
    OnnxInt8,
    OpenVino,
    OpenVinoInt8,
)
from flaxmobile.bench.candidates.in_jax import flax, ours
from flaxmobile.bench.candidates.in_keras import KerasNetwork
from flaxmobile.bench.candidates.in_torch import OnnxRuntime, TorchNetwork, torch_compiled
from flaxmobile.bench.job import Job

__all__ = ["CANDIDATES", "Candidate", "Missing", "build"]

Build = Callable[[Job], Candidate]

CANDIDATES: Mapping[str, Build] = {
    "flaxmobile": ours,
    "flax": flax,
    "keras": KerasNetwork,
    "torch": TorchNetwork,
    "torch-compiled": torch_compiled,
    "onnxruntime": OnnxRuntime,
    "onnx": Onnx,
    "onnx-int8": OnnxInt8,
    "litert": Litert,
    "litert-int8": LitertInt8,
    "openvino": OpenVino,
    "openvino-int8": OpenVinoInt8,
}

_PIPELINES: Mapping[str, Build] = {
    "flaxmobile": pipelines.Ours,
    "torch": pipelines.Torch,
}


def build(job: Job) -> Candidate:
    """Build the candidate that a job names.

    Raises:
      Missing: it cannot do this task, or not on this machine.
    """
    if job.task != "pipeline":
        return CANDIDATES[job.candidate](job)
    if job.candidate not in _PIPELINES:
        raise Missing(f"{job.candidate} has no input pipeline")
    return _PIPELINES[job.candidate](job)
