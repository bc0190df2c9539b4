"""The origins' own networks in torch, and their graphs in ONNX Runtime."""

import copy
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convert import engine
from convert.formats.torch import torch_state
from convert.references import as_ours, build_reference
from convert.rules import RULES
from flaxmobile.bench.candidates.base import (
    Candidate,
    Missing,
    data,
    dtype,
    network,
)
from flaxmobile.bench.job import Job
from flaxmobile.bench.objective import LEARNING_RATE, MOMENTUM
from flaxmobile.errors import InputError, pip_install
from flaxmobile.tasks import build, options_of


class TorchNetwork(Candidate):
    """The origin's own network in channels_last, eager or compiled, on the device that JAX takes.

    In 16 bits through autocast, as torch's users train; a GPU's convolutions are chosen by trial.
    """

    def __init__(self, job: Job, compiled: bool = False) -> None:
        if job.task == "compile" and not compiled:
            raise Missing("eager torch compiles nothing")
        module = torch_network(job)
        import torch

        torch.set_num_threads(job.threads)
        torch.backends.cudnn.benchmark = True
        device = _torch_device(torch.cuda.is_available())
        module = module.to(device, memory_format=torch.channels_last)
        images, labels = data(job)
        # already channels_last after the permutation
        self._images = torch.tensor(images, device=device).permute(0, 3, 1, 2)
        self._labels = torch.tensor(labels, device=device)
        half = dtype(job).itemsize == 2
        narrow = getattr(torch, dtype(job).name) if half else torch.bfloat16
        self._autocast = torch.autocast(device, narrow, enabled=half)
        self._optimizer = torch.optim.SGD(module.parameters(), LEARNING_RATE, MOMENTUM)
        self._compiled, self._train = compiled, job.task != "inference"
        module.train(self._train)
        self._network = torch.compile(module) if compiled else module

    def prepare(self) -> None:
        """Compile, which torch does in the first call, and undo that call's step."""
        if not self._compiled:
            return
        before = copy.deepcopy(self._network.state_dict())
        self.fetch(self.call())
        self._network.load_state_dict(before)
        self._optimizer.state.clear()

    def call(self) -> Any:
        """Infer, or take a step."""
        import torch

        if not self._train:
            with torch.inference_mode(), self._autocast:
                return self._network(self._images)
        self._optimizer.zero_grad()
        with self._autocast:
            loss = torch.nn.functional.cross_entropy(self._network(self._images), self._labels)
        loss.backward()
        self._optimizer.step()
        return loss.detach()

    def fetch(self, outputs: Any) -> np.ndarray:
        """Copy them from their device."""
        return outputs.float().cpu().numpy()


def _torch_device(has_cuda: bool) -> str:
    """Return the device on which torch runs beside JAX."""
    if (backend := jax.default_backend()) == "cpu":
        return "cpu"
    if backend == "gpu" and has_cuda:
        return "cuda"
    raise Missing(f"torch finds no {backend.upper()}, which JAX uses here")


def torch_network(job: Job) -> Any:
    """torchvision's or timm's network with our weights, which returns what ours returns."""
    origins = [origin for origin, model in RULES if model == job.model]
    if not origins:
        raise Missing(f"neither torchvision nor timm has {job.model}")
    model, variables = network(job)
    own, problems = options_of(model), []
    for origin in origins:
        rule = RULES[origin, job.model]
        other = [name for name in job.options if rule.options.get(name, own[name]) != own[name]]
        if other:
            asked = " ".join(f"{name}={own[name]}" for name in other)
            problems.append(f"{origin} has no {job.model} with {asked}")
            continue
        theirs = build(job.model, **{**own, **rule.options})
        try:
            reference = build_reference(origin, job.model, options_of(theirs))
            state = engine.from_flax(rule, theirs, variables)
        except InputError as error:
            problems.append(str(error))
            continue
        reference.load_state_dict(torch_state(state, rule.version))
        return as_ours(job.model, reference)
    raise Missing("; ".join(problems))


def torch_compiled(job: Job) -> Candidate:
    """The origin's network through torch.compile."""
    return TorchNetwork(job, compiled=True)


class OnnxRuntime(Candidate):
    """ONNX Runtime on the graph exported from torch."""

    def __init__(self, job: Job) -> None:
        if job.task != "inference":
            raise Missing("ONNX Runtime does not train")
        if jax.default_backend() != "cpu" or dtype(job) != jnp.float32:
            raise Missing("ONNX Runtime is measured in float32 on a CPU only")
        module = torch_network(job).eval()
        try:
            import onnxruntime
            import torch
        except ImportError as error:
            raise Missing(f"{pip_install('bench')}: {error}") from None
        from io import BytesIO

        images = np.ascontiguousarray(data(job)[0].transpose(0, 3, 1, 2))
        graph = BytesIO()
        torch.onnx.export(module, (torch.tensor(images),), graph, dynamo=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = job.threads
        self._session = onnxruntime.InferenceSession(graph.getvalue(), options)
        self._inputs = {self._session.get_inputs()[0].name: images}

    def call(self) -> np.ndarray:
        """Infer."""
        return self._session.run(None, self._inputs)[0]
