"""Memory and operations of a training step on a TPU slice, without the TPU: `--plan v5e:2x2`."""

from typing import Any

import jax
import jax.numpy as jnp

from flaxmobile.tpu import no_program_cache, topology_devices
from train.config import Config
from train.parallel import Parallel
from train.setup import prepare
from train.step import Objective, abstract_state


def plan(config: Config) -> int:
    """Compile the training step for a topology and print memory and operations per chip.

    Raises:
      InputError: libtpu is not installed, or does not know the topology.
    """
    devices = topology_devices(str(config.plan))
    run = prepare(config, devices)
    size = run.train_preprocessing.image_size
    shape = (config.batch_size, size, size, 3)
    compiled = compile_train_step(run.parallel, run.objective, shape)
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    per_chip = config.batch_size // len(devices)
    rows = {
        "images per chip and step": f"{per_chip}",
        "parameters and state": f"{memory.argument_size_in_bytes / 2**20:.1f} MiB",
        "temporary memory": f"{memory.temp_size_in_bytes / 2**20:.1f} MiB",
        "operations per image": f"{cost['flops'] / per_chip / 1e9:.3f} GFLOP",
        "memory traffic per image": f"{cost['bytes accessed'] / per_chip / 1e6:.1f} MB",
    }
    print(
        f"{run.config.model} compiles for {config.plan} ({len(devices)} chips, {config.parallel})"
    )
    for name, value in rows.items():
        print(f"  {name:<26}{value:>14}")
    return 0


def compile_train_step(parallel: Parallel, objective: Objective, shape: tuple[int, ...]) -> Any:
    """Compile the training step for devices that need not exist.

    Args:
      parallel: the devices.
      objective: the network, its loss and its optimizer.
      shape: [n, h, w, 3] of the images on all devices together.
    """
    flags = (objective.model.num_classes,) if objective.loss.multi_label else ()
    lowered = parallel.train_step(objective).lower(
        parallel.shape_state(abstract_state(objective)),
        parallel.shape_batch(shape, jnp.uint8),
        parallel.shape_batch((*shape[:1], *flags), jnp.int32),
        jax.eval_shape(jax.random.key, 0),
    )
    with no_program_cache():
        return lowered.compile()
