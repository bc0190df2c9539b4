"""This library, and the same network in plain Flax."""

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flaxmobile.bench.candidates.base import Candidate, data, network
from flaxmobile.bench.job import Job
from flaxmobile.bench.objective import sgd
from flaxmobile.bench.plain import plain_layers
from flaxmobile.compiler import training_options
from flaxmobile.folding import fold_batch_norm
from flaxmobile.inference import jit_inference
from flaxmobile.layers import Network
from flaxmobile.trees import PyTree, Tree
from train.parallel import JitParallel
from train.step import create_state

Layers = Callable[[], contextlib.AbstractContextManager[None]]
"""Opens a context in which the function is traced: `plain_layers`, or `nullcontext` for ours."""


class Jitted(Candidate):
    """A jitted function of (state, *arrays) -> (state, outputs) that donates its state."""

    def __init__(self, function: Any, state: PyTree, *arrays: Any, layers: Layers) -> None:
        self._function, self._layers = function, layers
        self._state = jax.tree.map(jnp.array, state)
        self._arrays = [jnp.asarray(array) for array in arrays]
        self.compiled: Any = None

    def prepare(self) -> None:
        """Trace and compile."""
        with self._layers():
            self.compiled = self._function.lower(self._state, *self._arrays).compile()

    def call(self) -> Any:
        """Call the function on its own state."""
        self._state, outputs = self.compiled(self._state, *self._arrays)
        return outputs

    def memory(self) -> int | None:
        """Bytes that the program needs beside arguments and results."""
        analysis = self.compiled.memory_analysis()
        return None if analysis is None else analysis.temp_size_in_bytes


class Training(Jitted):
    """The step of `train`, on one device; a call gives its loss."""

    def __init__(
        self,
        job: Job,
        model: Network,
        variables: Tree,
        layers: Layers = contextlib.nullcontext,
    ) -> None:
        objective = sgd(model)
        step = JitParallel(jax.devices()[:1]).train_step(objective)
        state = create_state(objective, variables)
        super().__init__(step, state, *data(job), jax.random.key(0), layers=layers)

    def fetch(self, outputs: Any) -> np.ndarray:
        """Wait for the loss."""
        return super().fetch(outputs["loss"])


class Inference(Candidate):
    """`jit_inference`, which compiles with options of its own."""

    def __init__(self, infer: Callable[[Any], Any], images: Any) -> None:
        self._infer = infer
        self._images = jnp.asarray(images)

    def prepare(self) -> None:
        """Trace and compile, which it does in the first call."""
        self.fetch(self.call())

    def call(self) -> Any:
        """Infer."""
        return self._infer(self._images)


def ours(job: Job) -> Candidate:
    """Build this library's candidate."""
    model, variables = network(job)
    if job.task != "inference":
        return Training(job, model, variables)
    model, variables = fold_batch_norm(model, variables)
    return Inference(jit_inference(model, variables), data(job)[0])


def flax(job: Job) -> Candidate:
    """Build the same network with plain Flax layers."""
    model, variables = network(job)
    if job.task != "inference":
        return Training(job, model, variables, plain_layers)
    infer = jax.jit(
        lambda variables, images: (variables, model.apply(variables, images)),
        donate_argnums=0,
        compiler_options=training_options(),
    )
    return Jitted(infer, variables, data(job)[0], layers=plain_layers)
