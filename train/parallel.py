"""How a step is spread over devices: one jit over a mesh, or pmap. Both give the same numbers."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from flaxmobile.compiler import training_options
from flaxmobile.errors import InputError, unknown
from train.step import Metrics, Objective, TrainState, Tree, eval_step, train_step


class TrainStep(Protocol):
    """A compiled (state, images, labels, key) -> (state, metrics); the given state is used up."""

    def __call__(
        self, state: TrainState, images: Any, labels: Any, key: jax.Array
    ) -> tuple[TrainState, Metrics]:
        """Take one step."""

    def lower(self, state: TrainState, images: Any, labels: Any, key: Any) -> Any:
        """Lower for shapes, without running."""


EvalStep = Callable[[Tree, Any, Any, Any], Metrics]


class Parallel(Protocol):
    """Puts arrays on devices and compiles steps for them."""

    axis_name: str | None

    def put_state(self, state: Tree) -> Tree:
        """Copy host arrays to every device."""

    def put_batch(self, array: np.ndarray) -> Any:
        """Spread this process's part of the batch over its devices."""

    def get(self, tree: Tree) -> Tree:
        """Bring back one copy of what every device holds, as host arrays."""

    def shape_state(self, state: Tree) -> Tree:
        """The shapes of what `put_state` gives, for lowering."""

    def shape_batch(self, shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
        """The shape of what `put_batch` gives for the whole batch, for lowering."""

    def train_step(self, objective: Objective) -> TrainStep:
        """Compile `train.step.train_step`."""

    def eval_step(self, objective: Objective) -> EvalStep:
        """Compile (variables, images, labels, weights) -> sums."""


class JitParallel:
    """One `jax.jit` over a mesh of all devices: the batch is sharded, the state replicated."""

    axis_name: str | None = None

    def __init__(self, devices: Sequence[jax.Device]) -> None:
        """Lay the devices out as one axis named "data"."""
        self.mesh = Mesh(np.asarray(devices), ("data",), axis_types=(AxisType.Auto,))
        self.replicated = NamedSharding(self.mesh, PartitionSpec())
        self.sharded = NamedSharding(self.mesh, PartitionSpec("data"))

    def put_state(self, state: Tree) -> Tree:
        """Copy host arrays to every device."""
        return jax.device_put(state, self.replicated)

    def put_batch(self, array: np.ndarray) -> jax.Array:
        """Spread this process's part of the batch over its devices."""
        return jax.make_array_from_process_local_data(self.sharded, array)

    def get(self, tree: Tree) -> Tree:
        """Bring back one copy of what every device holds, as host arrays."""
        return jax.tree.map(np.asarray, tree)

    def shape_state(self, state: Tree) -> Tree:
        """The shapes of what `put_state` gives, for lowering."""
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self.replicated),
            state,
        )

    def shape_batch(self, shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
        """The shape of what `put_batch` gives for the whole batch, for lowering."""
        return jax.ShapeDtypeStruct(shape, dtype, sharding=self.sharded)

    def train_step(self, objective: Objective) -> TrainStep:
        """Compile `train.step.train_step`."""
        return jax.jit(
            partial(train_step, objective),
            in_shardings=(self.replicated, self.sharded, self.sharded, self.replicated),
            out_shardings=self.replicated,
            donate_argnums=0,
            compiler_options=training_options(self.mesh.devices.flat[0].platform),
        )

    def eval_step(self, objective: Objective) -> EvalStep:
        """Compile (variables, images, labels, weights) -> sums."""
        return jax.jit(
            partial(eval_step, objective),
            in_shardings=(self.replicated, self.sharded, self.sharded, self.sharded),
            out_shardings=self.replicated,
        )


class PmapParallel:
    """`jax.pmap`: a copy of the state per device, gradients and statistics averaged."""

    axis_name: str | None = "devices"

    def __init__(self, devices: Sequence[jax.Device]) -> None:
        """Use these devices."""
        self.devices = devices
        self.local = [device for device in devices if device.process_index == jax.process_index()]

    def put_state(self, state: Tree) -> Tree:
        """Copy host arrays to every device."""
        mesh = Mesh(np.asarray(self.local), ("devices",), axis_types=(AxisType.Auto,))
        spread = NamedSharding(mesh, PartitionSpec("devices"))
        copies = jax.tree.map(lambda leaf: np.stack([leaf] * len(self.local)), state)
        return jax.device_put(copies, spread)

    def put_batch(self, array: np.ndarray) -> np.ndarray:
        """Spread this process's part of the batch over its devices."""
        return array.reshape(len(self.local), -1, *array.shape[1:])

    def get(self, tree: Tree) -> Tree:
        """Bring back one copy of what every device holds, as host arrays."""
        return jax.tree.map(lambda leaf: np.asarray(leaf.addressable_shards[0].data)[0], tree)

    def shape_state(self, state: Tree) -> Tree:
        """The shapes of what `put_state` gives, for lowering."""
        count = len(self.local)
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((count, *leaf.shape), leaf.dtype), state
        )

    def shape_batch(self, shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
        """The shape of what `put_batch` gives for the whole batch, for lowering."""
        count = len(self.local)
        return jax.ShapeDtypeStruct((count, shape[0] // count, *shape[1:]), dtype)

    def train_step(self, objective: Objective) -> TrainStep:
        """Compile `train.step.train_step`."""
        return jax.pmap(
            partial(train_step, objective),
            axis_name=self.axis_name,
            in_axes=(0, 0, 0, None),
            devices=self.devices,
            donate_argnums=0,
        )

    def eval_step(self, objective: Objective) -> EvalStep:
        """Compile (variables, images, labels, weights) -> sums."""
        return jax.pmap(
            partial(eval_step, objective), axis_name=self.axis_name, devices=self.devices
        )


PARALLEL: dict[str, Callable[[Sequence[jax.Device]], Parallel]] = {
    "jit": JitParallel,
    "pmap": PmapParallel,
}


def make_parallel(
    name: str, batch_size: int, devices: Sequence[jax.Device] | None = None
) -> Parallel:
    """Choose how to spread steps over the devices (by default all).

    Raises:
      InputError: an unknown way, or a batch that the devices do not divide.
    """
    if name not in PARALLEL:
        raise unknown("way to parallelize", name, PARALLEL)
    devices = jax.devices() if devices is None else devices
    count = len(devices)
    if batch_size % count:
        below = batch_size // count * count
        nearest = f"{below} or {below + count}" if below else f"{count}"
        raise InputError(
            f"--batch-size {batch_size} cannot be divided among {count} devices; take {nearest}"
        )
    return PARALLEL[name](devices)
