"""A step on many devices: one jit over a mesh, or pmap. Both give the same numbers."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from flaxmobile.compiler import training_options
from flaxmobile.errors import InputError, unknown
from flaxmobile.trees import PyTree
from train.step import Metrics, Objective, TrainState, eval_step, train_step


class TrainStep(Protocol):
    """A compiled (state, images, labels, key) -> (state, metrics); the given state is donated."""

    def __call__(
        self, state: TrainState, images: Any, labels: Any, key: jax.Array
    ) -> tuple[TrainState, Metrics]:
        """Take one step."""

    def lower(self, state: TrainState, images: Any, labels: Any, key: Any) -> Any:
        """Lower for shapes, without running."""


EvalStep = Callable[[PyTree, Any, Any], Metrics]
"""A compiled (variables, images, labels) -> metrics of each image, arrays [n, …] by name."""


class Parallel(Protocol):
    """Placement of arrays on devices, and steps compiled for them.

    Attributes:
      axis_name: axis of the devices, for the network; None if the compiler averages over them.
      count: number of devices.
    """

    axis_name: str | None
    count: int

    def put_state(self, state: PyTree) -> PyTree:
        """Copy host arrays to every device."""

    def put_key(self, seed: int) -> jax.Array:
        """Make the key of the steps, where each of them can use it without another copy."""

    def put_batch(self, array: np.ndarray) -> Any:
        """Shard an array of the batch over the devices."""

    def get(self, tree: PyTree) -> PyTree:
        """Copy a replicated tree to the host."""

    def get_batch(self, array: Any) -> np.ndarray:
        """Copy an array that is sharded like the batch to the host."""

    def shape_state(self, state: PyTree) -> PyTree:
        """Return the shapes of `put_state`'s result, for lowering."""

    def shape_batch(self, shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
        """Return the shape of `put_batch`'s result, for lowering."""

    def train_step(self, objective: Objective, teacher: PyTree = None) -> TrainStep:
        """Compile `train.step.train_step`, with the variables of a teacher on the host."""

    def eval_step(self, objective: Objective) -> EvalStep:
        """Compile `train.step.eval_step`."""


class JitParallel:
    """One `jax.jit` over a mesh of all devices: the batch is sharded, the state replicated."""

    axis_name: str | None = None

    def __init__(self, devices: Sequence[jax.Device]) -> None:
        """Lay the devices out as one axis named "data"."""
        self.count = len(devices)
        self.mesh = Mesh(np.asarray(devices), ("data",), axis_types=(AxisType.Auto,))
        self.replicated = NamedSharding(self.mesh, PartitionSpec())
        self.sharded = NamedSharding(self.mesh, PartitionSpec("data"))
        # For evaluation too: with large batches the options of inference are 6 percent slower
        # (MobileNetV2, 32 images of 224×224 on 2 cores), with small images no faster.
        self.options = training_options(self.mesh.devices.flat[0].platform)

    def put_state(self, state: PyTree) -> PyTree:
        """Copy host arrays to every device."""
        return _place(state, self.replicated)

    def put_key(self, seed: int) -> jax.Array:
        """Make the key of the steps, where each of them can use it without another copy."""
        data = _place(jax.random.key_data(jax.random.key(seed)), self.replicated)
        return jax.random.wrap_key_data(data)

    def put_batch(self, array: np.ndarray) -> jax.Array:
        """Shard an array of the batch over the devices."""
        return jax.make_array_from_process_local_data(self.sharded, array)

    def get(self, tree: PyTree) -> PyTree:
        """Copy a replicated tree to the host."""
        return jax.tree.map(np.asarray, tree)

    def get_batch(self, array: jax.Array) -> np.ndarray:
        """Copy an array that is sharded like the batch to the host."""
        shards = {shard.index[0].start or 0: shard.data for shard in array.addressable_shards}
        return np.concatenate([np.asarray(shards[start]) for start in sorted(shards)])

    def shape_state(self, state: PyTree) -> PyTree:
        """Return the shapes of `put_state`'s result, for lowering."""
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self.replicated),
            state,
        )

    def shape_batch(self, shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
        """Return the shape of `put_batch`'s result, for lowering."""
        return jax.ShapeDtypeStruct(shape, dtype, sharding=self.sharded)

    def train_step(self, objective: Objective, teacher: PyTree = None) -> TrainStep:
        """Compile `train.step.train_step`, with the variables of a teacher on the host."""
        every, share = self.replicated, self.sharded
        given = (every, share, share, every)
        step = jax.jit(
            partial(train_step, objective),
            in_shardings=given if teacher is None else (*given, every),
            out_shardings=every,
            donate_argnums=0,
            compiler_options=self.options,
        )
        return step if teacher is None else _Taught(step, self.put_state(teacher))

    def eval_step(self, objective: Objective) -> EvalStep:
        """Compile `train.step.eval_step`."""
        return jax.jit(
            partial(eval_step, objective),
            in_shardings=(self.replicated, self.sharded, self.sharded),
            out_shardings=self.sharded,
            compiler_options=self.options,
        )


class PmapParallel:
    """`jax.pmap`: a copy of the state per device, gradients and statistics averaged."""

    axis_name: str | None = "devices"

    def __init__(self, devices: Sequence[jax.Device]) -> None:
        self.devices, self.count = devices, len(devices)
        own = [device for device in devices if device.process_index == jax.process_index()]
        mesh = Mesh(np.asarray(own), ("devices",), axis_types=(AxisType.Auto,))
        self.own, self.sharded = len(own), NamedSharding(mesh, PartitionSpec("devices"))

    def put_state(self, state: PyTree) -> PyTree:
        """Copy host arrays to every device."""
        copies = jax.tree.map(lambda leaf: np.stack([leaf] * self.own), state)
        return jax.device_put(copies, self.sharded)

    def put_key(self, seed: int) -> jax.Array:
        """Make the key of the steps; `jax.pmap` itself copies it to every device."""
        return jax.random.key(seed)

    def put_batch(self, array: np.ndarray) -> np.ndarray:
        """Shard an array of the batch over the devices."""
        return array.reshape(self.own, -1, *array.shape[1:])

    def get(self, tree: PyTree) -> PyTree:
        """Copy a replicated tree to the host."""
        return jax.tree.map(lambda leaf: np.asarray(leaf.addressable_shards[0].data)[0], tree)

    def get_batch(self, array: jax.Array) -> np.ndarray:
        """Copy an array that is sharded like the batch to the host."""
        shards = sorted(array.addressable_shards, key=lambda shard: shard.index[0].start or 0)
        return np.concatenate([np.concatenate(np.asarray(shard.data)) for shard in shards])

    def shape_state(self, state: PyTree) -> PyTree:
        """Return the shapes of `put_state`'s result, for lowering."""
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((self.count, *leaf.shape), leaf.dtype), state
        )

    def shape_batch(self, shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
        """Return the shape of `put_batch`'s result, for lowering."""
        share = shape[0] // self.count
        return jax.ShapeDtypeStruct((self.count, share, *shape[1:]), dtype)

    def train_step(self, objective: Objective, teacher: PyTree = None) -> TrainStep:
        """Compile `train.step.train_step`, with the variables of a teacher on the host."""
        step = jax.pmap(
            partial(train_step, objective),
            axis_name=self.axis_name,
            in_axes=(0, 0, 0, None) if teacher is None else (0, 0, 0, None, 0),
            devices=self.devices,
            donate_argnums=0,
        )
        return step if teacher is None else _Taught(step, self.put_state(teacher))

    def eval_step(self, objective: Objective) -> EvalStep:
        """Compile `train.step.eval_step`."""
        return jax.pmap(
            partial(eval_step, objective), axis_name=self.axis_name, devices=self.devices
        )


def _place(tree: PyTree, sharding: NamedSharding) -> PyTree:
    """Copy host arrays to the devices of all processes, each to its own."""

    def place(leaf: Any) -> jax.Array:
        values = np.asarray(leaf)
        return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])

    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)
    return jax.tree.map(place, tree)


class _Taught:
    """A compiled step with the variables of its teacher, which no step changes."""

    def __init__(self, step: Any, teacher: PyTree) -> None:
        """Pass `teacher`, on the devices, to each call of `step`."""
        self._step, self._teacher = step, teacher

    def __call__(
        self, state: TrainState, images: Any, labels: Any, key: jax.Array
    ) -> tuple[TrainState, Metrics]:
        """Take one step."""
        state, metrics = self._step(state, images, labels, key, self._teacher)
        return state, metrics

    def lower(self, state: TrainState, images: Any, labels: Any, key: Any) -> Any:
        """Lower for shapes, without running."""
        return self._step.lower(state, images, labels, key, self._teacher)


PARALLEL: dict[str, Callable[[Sequence[jax.Device]], Parallel]] = {
    "jit": JitParallel,
    "pmap": PmapParallel,
}


def make_parallel(
    name: str, batch_size: int, devices: Sequence[jax.Device] | None = None
) -> Parallel:
    """Choose how steps are parallelized over devices.

    Args:
      name: "jit" or "pmap".
      batch_size: images of a step.
      devices: by default all.

    Raises:
      InputError: an unknown name, or a batch that the devices do not divide.
    """
    if name not in PARALLEL:
        raise unknown("way to parallelize", name, PARALLEL)
    if devices is None:  # those of a process one after another: it reads their images
        devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    count = len(devices)
    if batch_size % count:
        below = batch_size // count * count
        nearest = f"{below} or {below + count}" if below else f"{count}"
        raise InputError(
            f"--batch-size {batch_size} cannot be divided among {count} devices; take {nearest}"
        )
    return PARALLEL[name](devices)
