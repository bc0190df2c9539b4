"""Compilation for TPUs on machines without one, by libtpu's compiler.

JAX is imported in the functions: commands set the environment before it looks for devices.
"""

import contextlib
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flaxmobile.errors import InputError, first_line, pip_install

if TYPE_CHECKING:
    import jax

SETTINGS = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
}
"""Environment of a machine without a TPU: libtpu then asks no server which TPU it is on."""

DEVICES = Path("/dev")


def set_up_without_chip() -> None:
    """Keep libtpu from warning on stderr that this machine has no TPU, where it has none.

    JAX asks every installed backend for devices, also libtpu where it is installed only for its
    compiler (the `plan` extra). Other backends are found as before, and what the user has set
    stays. Call it before JAX looks for devices.
    """
    if not [*DEVICES.glob("accel*"), *DEVICES.glob("vfio/[0-9]*")]:
        _set_defaults(SETTINGS)


def topology_devices(name: str, slices: int = 1) -> list["jax.Device"]:
    """Return the chips of a TPU topology, such as v5e:2x2, as compilation targets.

    Args:
      name: the topology of a slice.
      slices: number of such slices.

    Raises:
      InputError: libtpu is not installed, or it does not know the topology.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise InputError(f"--plan needs libtpu's compiler: {pip_install('plan')}")
    # A second process may load libtpu: compilation occupies no chip.
    _set_defaults({**SETTINGS, "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"})
    from jax.experimental import topologies

    options: dict[str, Any] = {} if slices == 1 else {"num_slices": slices}
    if name.startswith("v4:"):  # both cores of a chip as one device, as on Cloud TPU
        options["chip_config_name"] = "megacore"
    try:
        topology = topologies.get_topology_desc(platform="tpu", topology_name=name, **options)
    except Exception as error:
        raise InputError(
            f"libtpu cannot compile for topology {name!r} ({first_line(error)}); examples of "
            "topologies: v5e:2x2, v6e:4x4, v5p:2x2x1"
        ) from None
    return list(topology.devices)


@contextlib.contextmanager
def no_program_cache() -> Iterator[None]:
    """Disable the program cache on disk: a TPU's programs cannot be read back without a TPU."""
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    enabled = jax.config.jax_enable_compilation_cache  # type: ignore[attr-defined]
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", enabled)
        compilation_cache.reset_cache()


def _set_defaults(settings: dict[str, str]) -> None:
    for variable, value in settings.items():
        os.environ.setdefault(variable, value)
