"""Whether and how fast a network trains on chips that need not be there: `--plan v5e:4x4`."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flaxmobile.compat import count_cost
from flaxmobile.errors import first_line
from flaxmobile.tpu import no_program_cache
from train.config import Config
from train.losses import Loss
from train.parallel import Parallel
from train.roofline import Cost, Memory, largest_batch, least_times, read_cost, read_memory
from train.setup import Run, prepare
from train.slices import Slice, parse_slice
from train.step import Objective, abstract_state

_PADDING = 8
"""TPUs pad the batch of a chip to a multiple of this."""


def plan(config: Config) -> int:
    """Compile the training step for a slice, and print memory, cost and the least time.

    Returns:
      The exit status: 0 if it fits, otherwise 1.

    Raises:
      InputError: the slice's compiler is not installed, or does not know it.
    """
    slices = parse_slice(str(config.plan), config.plan_slices)
    devices = slices.devices()
    step = math.lcm(_PADDING, 2 * config.accumulate)
    images = config.plan_batch
    if images == "auto":
        images = max(1, config.batch_size // (len(devices) * step)) * step
    batch = config.batch_size if images is None else images * len(devices)
    run = prepare(dataclasses.replace(config, batch_size=batch), devices)
    images = batch // len(devices)
    planner = Planner(run)
    if config.plan_batch == "auto":
        found = largest_batch(planner.measure, slices.chip.memory, images, step)
        images = found or images
    compiled = planner.compile(images)
    fits = compiled is not None and read_memory(compiled).total <= slices.chip.memory
    head = f"{config.head} on " if config.head else ""
    print(
        f"{head}{config.model} {'fits' if fits else 'does not fit'} on {slices} "
        f"({len(devices)} chips, {config.parallel}) with {images} images per chip"
        + (f": {planner.refusal}" if compiled is None else "")
    )
    if compiled is not None:
        cost = planner.cost(images, slices)
        total = config.epochs * len(run.dataset.train)
        if config.steps:
            total = config.steps * config.batch_size
        rows = [*_memory_rows(read_memory(compiled), slices)]
        if cost is not None:
            rows += _cost_rows(cost, slices, images)
            rows += _time_rows(cost, slices, images, total)
        for name, value in rows:
            print(f"  {name:<28}{value}")
    return 0 if fits else 1


class Planner:
    """Compiles the training step of a run for chips that need not exist.

    Attributes:
      refusal: why the compiler refused a program.
    """

    def __init__(self, run: Run) -> None:
        """Plan a run that is prepared for these chips; the batch may be another one."""
        self.refusal = ""
        self._run = run
        self._label = None if run.config.task == "classify" else first_label(run)
        self._lowered: dict[int, Any] = {}
        self._compiled: dict[int, Any] = {}

    def compile(self, images: int) -> Any | None:
        """Compile the step for a number of images per chip, once; None where it does not fit."""
        if images not in self._compiled:
            size = self._run.train_preprocessing.side
            shape = (images * self._run.parallel.count, size, size, 3)
            lowered = self._lowered[images] = lower_train_step(
                self._run.parallel, self._run.objective, shape, self._label
            )
            try:
                compiled = compile_elsewhere(lowered)
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error):
                    raise
                compiled, self.refusal = None, first_line(error)
            self._compiled[images] = compiled
        return self._compiled[images]

    def cost(self, images: int, slices: Slice) -> Cost | None:
        """Return what a step that fits costs a chip; None where this JAX does not count it."""
        compiled, config = self._compiled[images], self._run.config
        counted = compiled.cost_analysis()
        if counted is None:
            parts = self._run.parallel.count if config.parallel == "jit" else 1
            counted = count_cost(self._lowered[images], compiled, parts)
        return counted and read_cost(counted, compiled.as_text(), slices, config.accumulate)

    def measure(self, images: int) -> float:
        """Return the bytes that the step needs on a chip; infinite where it does not fit."""
        compiled = self.compile(images)
        return math.inf if compiled is None else read_memory(compiled).total


def _memory_rows(memory: Memory, slices: Slice) -> Iterator[tuple[str, str]]:
    total, chip = memory.total / 2**20, slices.chip.memory / 2**20
    yield "memory per chip", f"{total:,.1f} of {chip:,.0f} MiB ({total / chip:.1%})"
    yield "  state and batch", f"{memory.state / 2**20:,.1f} MiB"
    yield "  temporary", f"{memory.temporary / 2**20:,.1f} MiB"
    yield "  program", f"{memory.code / 2**20:,.1f} MiB"


def _cost_rows(cost: Cost, slices: Slice, images: int) -> Iterator[tuple[str, str]]:
    yield "operations per image", f"{cost.flops / images / 1e9:.3f} GFLOP"
    yield "memory traffic per image", f"{cost.traffic / images / 1e6:.1f} MB"
    yield "sent to chips per step", f"{cost.links / 1e6:.1f} MB in {cost.exchanges} collectives"
    if slices.count > 1:
        yield "sent to slices per step", f"{cost.network / 1e6:.1f} MB"


def _time_rows(cost: Cost, slices: Slice, images: int, total: int) -> Iterator[tuple[str, str]]:
    """Say how long a step and a run over all images take at least."""
    chip, times = slices.chip, least_times(cost, slices)
    bound = max(times, key=lambda part: times[part])
    speed = images * slices.chips * slices.count / times[bound]
    peaks = [
        f"{chip.flops / 1e12:g} TFLOP/s in bfloat16",
        f"memory {chip.bandwidth / 1e9:g} GB/s",
        f"to chips {chip.links / 1e9:g} GB/s",
    ]
    if slices.count > 1:
        network = f"{chip.network / 1e9:g} GB/s" if chip.network else "not published, left out"
        peaks.append(f"to slices {network}")
    yield "time per step, at least", f"{times[bound] * 1e3:.3f} ms, bound by {bound}"
    yield "images per second, at most", f"{speed:,.0f}"
    yield "hours of the run, at least", f"{total / speed / 3600:.2f}, {total:,} images"
    yield "peaks of a chip", ", ".join(peaks)


def first_label(run: Run) -> Any:
    """Return the label of the first training image, an array or a dictionary of arrays."""
    return run.train_reader(run.dataset.train[0], np.random.default_rng(0)).label


def lower_train_step(
    parallel: Parallel, objective: Objective, shape: tuple[int, ...], label: Any = None
) -> Any:
    """Lower the training step for devices that need not exist.

    Args:
      parallel: the devices.
      objective: the network, its loss and its optimizer.
      shape: [n, h, w, 3] of the images on all devices together.
      label: of an image, for its shapes and types; by default classes.
    """
    if label is None:
        loss = objective.loss
        several = isinstance(loss, Loss) and loss.multi_label
        label = np.zeros((objective.model.num_classes,) if several else (), np.int32)
    return parallel.train_step(objective).lower(
        parallel.shape_state(abstract_state(objective)),
        parallel.shape_batch(shape, jnp.uint8),
        jax.tree.map(lambda each: parallel.shape_batch((shape[0], *each.shape), each.dtype), label),
        jax.eval_shape(jax.random.key, 0),
    )


def compile_elsewhere(lowered: Any) -> Any:
    """Compile a lowered program whose devices need not be on this machine."""
    with no_program_cache():
        return lowered.compile()
