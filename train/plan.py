"""What a training step needs on a TPU slice that is not there: `--plan v5e:2x2`."""

import contextlib
import importlib.util
import os
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.compilation_cache import compilation_cache

from flaxmobile.errors import InputError
from train.config import Config
from train.setup import Run, abstract_state, prepare

_LIBTPU_SETTINGS = {  # else libtpu asks a metadata server which TPU this machine is
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # to compile only: no chip is taken from anyone
}


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


@contextlib.contextmanager
def no_program_cache() -> Iterator[None]:
    """Within, nothing is cached on disk: a TPU's program cannot be read back without a TPU."""
    enabled = jax.config.values["jax_enable_compilation_cache"]
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", enabled)
        compilation_cache.reset_cache()


def compile_train_step(run: Run) -> Any:
    """Compile the training step for the devices of the run, which need not exist."""
    size, count = run.preprocessing.image_size, run.config.batch_size
    return (
        run.parallel.train_step(run.objective)
        .lower(
            run.parallel.shape_state(abstract_state(run)),
            run.parallel.shape_batch((count, size, size, 3), jnp.uint8),
            run.parallel.shape_batch((count,), jnp.int32),
            jax.eval_shape(jax.random.key, 0),
        )
        .compile()
    )


def topology_devices(name: str) -> list[jax.Device]:
    """The chips of a TPU topology such as v5e:2x2, v6e:4x4 or v4:2x2x1, as compilation targets.

    Raises:
      InputError: libtpu is not installed, or it does not know the topology.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise InputError("--plan needs libtpu's compiler: pip install 'flaxmobile[plan]'")
    for variable, value in _LIBTPU_SETTINGS.items():
        os.environ.setdefault(variable, value)
    from jax.experimental import topologies

    try:
        return list(topologies.get_topology_desc(platform="tpu", topology_name=name).devices)
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"libtpu cannot compile for topology {name!r} ({reason}); examples of topologies: "
            "v5e:2x2, v6e:4x4, v5p:2x2x1"
        ) from None
