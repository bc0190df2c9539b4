"""This library, and the same network in plain Flax."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from flaxmobile.bench.candidates.base import LEARNING_RATE, MOMENTUM, Candidate, data, network
from flaxmobile.bench.measure import Job
from flaxmobile.bench.plain import plain_layers
from flaxmobile.compiler import training_options
from flaxmobile.folding import fold_batch_norm
from flaxmobile.inference import jit_inference


class Jitted(Candidate):
    """A JAX function of (state, *arrays) -> (state, outputs)."""

    def __init__(self, function: Callable[..., tuple[Any, Any]], state: Any, *arrays: Any) -> None:
        """Keep the function and what it is called on; the state is donated."""
        self._function = jax.jit(function, donate_argnums=0, compiler_options=training_options())
        self._state = jax.tree.map(jnp.array, state)
        self._arrays = [jnp.asarray(array) for array in arrays]
        self.compiled: Any = None

    def prepare(self) -> None:
        """Trace and compile."""
        self.compiled = self._function.lower(self._state, *self._arrays).compile()

    def call(self) -> Any:
        """Call the function on its own state."""
        self._state, outputs = self.compiled(self._state, *self._arrays)
        return outputs

    def memory(self) -> int | None:
        """Bytes that the program needs beside arguments and results."""
        analysis = self.compiled.memory_analysis()
        return None if analysis is None else analysis.temp_size_in_bytes


class Inference(Candidate):
    """`jit_inference`, which compiles with options of its own."""

    def __init__(self, infer: Callable[[Any], Any], images: Any) -> None:
        """Keep the function and what it is called on."""
        self._infer = infer
        self._images = jnp.asarray(images)

    def prepare(self) -> None:
        """Trace and compile, which it does in the first call."""
        self.fetch(self.call())

    def call(self) -> Any:
        """Infer."""
        return self._infer(self._images)


class Plain(Jitted):
    """The same with plain Flax layers in place of ours."""

    def prepare(self) -> None:
        """Trace and compile."""
        with plain_layers():
            super().prepare()


def ours(job: Job) -> Candidate:
    """This library."""
    model, variables = network(job)
    if job.task == "inference":
        model, variables = fold_batch_norm(model, variables)
        return Inference(jit_inference(model, variables), data(job)[0])
    return Jitted(*training(job, model, variables))


def flax(job: Job) -> Candidate:
    """Plain Flax layers in the same network."""
    model, variables = network(job)
    if job.task == "inference":
        return Plain(lambda v, x: (v, model.apply(v, x)), variables, data(job)[0])
    return Plain(*training(job, model, variables))


def training(job: Job, model: Any, variables: Any) -> tuple[Any, ...]:
    """A step of SGD with momentum, its state and its batch."""
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

    return step, (variables, optimizer.init(variables["params"])), *data(job)
