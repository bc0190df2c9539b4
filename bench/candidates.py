"""The library and its peers: the same network with the same weights, each in its best form."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bench.measure import Job
from bench.plain import plain_layers
from convert import engine
from convert.references import build_reference
from convert.rules import RULES
from convert.sources import torch_state
from flaxmobile import create_model, fold_batch_norm, jit_inference
from flaxmobile.errors import InputError
from flaxmobile.registry import options_of
from flaxmobile.variables import abstract_variables

LEARNING_RATE, MOMENTUM = 1e-3, 0.9


class Missing(Exception):  # noqa: N818
    """A candidate that cannot take part, and why."""


class Candidate(ABC):
    """Something that can be called repeatedly."""

    @abstractmethod
    def call(self) -> np.ndarray:
        """Do the task once, to the end, and return what must be equal among candidates."""

    def memory(self) -> int | None:
        """Bytes of temporary memory, where it is known."""
        return None


class Compiled(Candidate):
    """A compiled JAX function of (state, *arrays) -> (state, outputs)."""

    def __init__(self, function: Any, state: Any, *arrays: Any) -> None:
        """Compile for these arguments; the state is donated."""
        donated = jax.jit(function, donate_argnums=0)
        self._compiled = donated.lower(state, *arrays).compile()
        self._state = jax.tree.map(jnp.array, state)
        self._arrays = [jnp.asarray(array) for array in arrays]

    def call(self) -> np.ndarray:
        """Call the function on its own state."""
        self._state, outputs = self._compiled(self._state, *self._arrays)
        return np.asarray(outputs)

    def memory(self) -> int | None:
        """Bytes that the program needs beside arguments and results."""
        analysis = self._compiled.memory_analysis()
        return None if analysis is None else analysis.temp_size_in_bytes


def data(job: Job) -> tuple[np.ndarray, np.ndarray]:
    """The same images and labels for every candidate."""
    rng = np.random.default_rng(1)
    shape = (job.batch_size, job.image_size, job.image_size, 3)
    images = rng.normal(size=shape).astype(np.float32)
    return images, rng.integers(0, 1000, job.batch_size)


def network(job: Job) -> tuple[Any, Any]:
    """Our network without dropout, and weights like a trained network's."""
    model = create_model(job.model, **{"dropout_rate": 0.0, **job.options})
    rng, wide = np.random.default_rng(0), jnp.promote_types(model.dtype, jnp.float32)

    def draw(path: Any, leaf: Any) -> np.ndarray:
        if path[-1].key == "kernel":
            deviation = np.sqrt(2 / np.prod(leaf.shape[:-1]))
            return rng.normal(0, deviation, leaf.shape).astype(wide)
        low, high = (0.8, 1.2) if path[-1].key in ("scale", "var") else (-0.1, 0.1)
        return rng.uniform(low, high, leaf.shape).astype(wide)

    return model, jax.tree_util.tree_map_with_path(draw, abstract_variables(model))


def ours(job: Job) -> Candidate:
    """This library."""
    model, variables = network(job)
    if job.task == "train":
        return _training(model, variables, *data(job))
    model, variables = fold_batch_norm(model, variables)
    infer = jit_inference(model)
    return Compiled(lambda v, x: (v, infer(v, x)), variables, data(job)[0])


def flax(job: Job) -> Candidate:
    """Plain Flax layers in the same network."""
    model, variables = network(job)
    with plain_layers():
        if job.task == "train":
            return _training(model, variables, *data(job))
        return Compiled(lambda v, x: (v, model.apply(v, x)), variables, data(job)[0])


def _training(model: Any, variables: Any, images: np.ndarray, labels: np.ndarray) -> Candidate:
    optimizer = optax.sgd(LEARNING_RATE, MOMENTUM)

    def step(state: Any, images: Any, labels: Any) -> tuple[Any, Any]:
        variables, moments = state

        def loss_of(params: Any) -> tuple[Any, Any]:
            logits, updates = model.apply(
                {**variables, "params": params}, images, train=True, mutable=["batch_stats"]
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return losses.mean(), updates

        (loss, updates), gradients = jax.value_and_grad(loss_of, has_aux=True)(variables["params"])
        moves, moments = optimizer.update(gradients, moments)
        params = optax.apply_updates(variables["params"], moves)
        return ({**updates, "params": params}, moments), loss

    return Compiled(step, (variables, optimizer.init(variables["params"])), images, labels)


class TorchNetwork(Candidate):
    """The origin's own network in channels_last, eager or compiled."""

    def __init__(self, job: Job, compiled: bool = False) -> None:
        """Build the network, by default to run as it is."""
        network = torch_network(job)
        import torch

        torch.set_num_threads(job.threads)
        network = network.to(memory_format=torch.channels_last)
        images, labels = data(job)
        self._images = torch.tensor(images).permute(0, 3, 1, 2)  # channels_last already
        self._labels = torch.tensor(labels)
        self._optimizer = torch.optim.SGD(network.parameters(), LEARNING_RATE, MOMENTUM)
        self._train = job.task == "train"
        network.train(self._train)
        self._network = torch.compile(network) if compiled else network

    def call(self) -> np.ndarray:
        """Infer, or take a step."""
        import torch

        if not self._train:
            with torch.inference_mode():
                return self._network(self._images).numpy()
        self._optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(self._network(self._images), self._labels)
        loss.backward()
        self._optimizer.step()
        return loss.detach().numpy()


def torch_network(job: Job) -> Any:
    """torchvision's or timm's network with our weights."""
    origins = [origin for origin, model in RULES if model == job.model]
    if not origins:
        raise Missing(f"neither torchvision nor timm has {job.model}")
    model, variables = network(job)
    problems = []
    for origin in origins:
        rule = RULES[origin, job.model]
        theirs = model.clone(**rule.options)
        try:
            reference = build_reference(origin, job.model, options_of(theirs))
            state = engine.from_flax(rule, theirs, variables)
        except InputError as error:
            problems.append(str(error))
            continue
        reference.load_state_dict(torch_state(state, rule.version))
        return reference
    raise Missing("; ".join(problems))


def torch_compiled(job: Job) -> Candidate:
    """The origin's network through torch.compile."""
    return TorchNetwork(job, compiled=True)


class OnnxRuntime(Candidate):
    """ONNX Runtime on the graph exported from torch."""

    def __init__(self, job: Job) -> None:
        """Export the graph."""
        if job.task != "inference":
            raise Missing("ONNX Runtime does not train")
        network = torch_network(job).eval()
        try:
            import onnxruntime
            import torch
        except ImportError as error:
            raise Missing(f"pip install 'flaxmobile[bench]': {error}") from None
        from io import BytesIO

        images = np.ascontiguousarray(data(job)[0].transpose(0, 3, 1, 2))
        graph = BytesIO()
        torch.onnx.export(network, (torch.tensor(images),), graph, dynamo=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = job.threads
        self._session = onnxruntime.InferenceSession(graph.getvalue(), options)
        self._inputs = {self._session.get_inputs()[0].name: images}

    def call(self) -> np.ndarray:
        """Infer."""
        return self._session.run(None, self._inputs)[0]


CANDIDATES: Mapping[str, Callable[[Job], Candidate]] = {
    "flaxmobile": ours,
    "flax": flax,
    "torch": TorchNetwork,
    "torch-compiled": torch_compiled,
    "onnxruntime": OnnxRuntime,
}
