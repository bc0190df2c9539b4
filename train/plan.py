"""What a training step needs on a TPU slice that is not there: `--plan v5e:2x2`."""

from typing import Any

import jax
import jax.numpy as jnp

from flaxmobile.tpu import no_program_cache, topology_devices
from train.config import Config
from train.setup import Run, prepare
from train.step import abstract_state


def plan(config: Config) -> int:
    """Compile the training step for a topology and print memory and operations per chip.

    Raises:
      InputError: libtpu is not installed, or the topology is unknown to it.
    """
    devices = topology_devices(str(config.plan))
    run = prepare(config, devices)
    with no_program_cache():
        compiled = compile_train_step(run)
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


def compile_train_step(run: Run) -> Any:
    """Compile the training step for the devices of the run, which need not exist."""
    size, count = run.preprocessing.image_size, run.config.batch_size
    return (
        run.parallel.train_step(run.objective)
        .lower(
            run.parallel.shape_state(abstract_state(run.objective)),
            run.parallel.shape_batch((count, size, size, 3), jnp.uint8),
            run.parallel.shape_batch((count,), jnp.int32),
            jax.eval_shape(jax.random.key, 0),
        )
        .compile()
    )
