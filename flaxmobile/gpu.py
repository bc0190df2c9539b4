"""Compilation for NVIDIA GPUs on machines without one, by the compiler of JAX's CUDA plugin."""

import dataclasses
import importlib.util
from typing import TYPE_CHECKING

from flaxmobile.errors import InputError, first_line, pip_install

if TYPE_CHECKING:
    import jax

MOST = 8
"""GPUs of one machine."""
_PLUGINS = ("jax_cuda13_plugin", "jax_cuda12_plugin")


@dataclasses.dataclass(frozen=True)
class Gpu:
    """What the compiler asks about a GPU, and its published peaks.

    Attributes:
      name: as the driver says it.
      capability: compute capability.
      multiprocessors: their number.
      units: float32 units of each.
      threads: resident threads of each.
      shared_memory: bytes of each; a block may ask for 1024 fewer.
      cache: bytes of the second level.
      clock: in GHz.
      memory: bytes.
      bandwidth: bytes per second of the memory.
      flops: bfloat16 operations per second of dense matrices at most.
      links: bytes per second that it sends to the other GPUs of its machine.
    """

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    units: int
    threads: int
    shared_memory: int
    cache: int
    clock: float
    memory: int
    bandwidth: float
    flops: float
    links: float


_MIB, _GB = 2**20, 1e9

GPUS = {
    "l4": Gpu(
        "NVIDIA L4", (8, 9), 58, 128, 1536, 100 * 2**10, 48 * _MIB, 2.04, 22_478 * _MIB, 300 * _GB,
        121e12, 32 * _GB,
    ),
    "a100-40": Gpu(
        "NVIDIA A100-SXM4-40GB", (8, 0), 108, 64, 2048, 164 * 2**10, 40 * _MIB, 1.41, 42331013120,
        1555.2 * _GB, 312e12, 300 * _GB,
    ),
    "a100": Gpu(
        "NVIDIA A100-SXM4-80GB", (8, 0), 108, 64, 2048, 164 * 2**10, 40 * _MIB, 1.41, 85100068864,
        2039.04 * _GB, 312e12, 300 * _GB,
    ),
    "h100": Gpu(
        "NVIDIA H100 80GB HBM3", (9, 0), 132, 128, 2048, 228 * 2**10, 50 * _MIB, 1.98, 84942979072,
        3352.32 * _GB, 989e12, 450 * _GB,
    ),
    "h200": Gpu(
        "NVIDIA H200 141GB HBM3e", (9, 0), 132, 128, 2048, 228 * 2**10, 50 * _MIB, 1.98,
        151397597184, 4800 * _GB, 989e12, 450 * _GB,
    ),
    "b200": Gpu(
        "NVIDIA B200", (10, 0), 148, 128, 2048, 228 * 2**10, 132644864, 1.965, 191514411008,
        7672.32 * _GB, 2250e12, 900 * _GB,
    ),
}  # fmt: skip
"""The compiler's figures are those of XLA, xla/backends/gpu/target_config/specs, and for the L4 of
NVIDIA's Ada architecture paper; peaks of NVIDIA's data sheets. Links are NVLink's, half of the
published bandwidth, which counts both directions, and PCI Express's of the L4."""


def topology_devices(kind: str, count: int) -> list["jax.Device"]:
    """Return the GPUs of a machine as compilation targets. Call it before JAX looks for devices.

    Args:
      kind: key of GPUS.
      count: number of GPUs.

    Raises:
      InputError: JAX's CUDA plugin is not installed, or does not compile for this GPU.
    """
    if not any(map(importlib.util.find_spec, _PLUGINS)):
        raise InputError(f"--plan {kind} needs the compiler for GPUs: {pip_install('plan-gpu')}")
    import jax
    from jax.experimental import topologies

    jax.config.update("jax_platforms", "cpu")  # GPUs that are there are left alone
    try:
        topology = topologies.get_topology_desc(
            platform="cuda", target_config=_target(GPUS[kind]), topology=f"1x1x{count}"
        )
    except Exception as error:
        raise InputError(
            f"JAX's CUDA plugin cannot compile for {kind} ({first_line(error)}); it must have the "
            f"version of jaxlib: {pip_install('plan-gpu')}"
        ) from None
    return list(topology.devices)


def _target(gpu: Gpu) -> str:
    """Describe a GPU in the text of XLA's GpuTargetConfigProto."""
    major, minor = gpu.capability
    return f"""
gpu_device_info {{
  cuda_compute_capability {{ major: {major} minor: {minor} }}
  core_count: {gpu.multiprocessors}
  fpus_per_core: {gpu.units}
  threads_per_core_limit: {gpu.threads}
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_core: {gpu.shared_memory}
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: {gpu.shared_memory - 1024}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  block_dim_limit_x: {2**31 - 1} block_dim_limit_y: 65535 block_dim_limit_z: 65535
  thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
  clock_rate_ghz: {gpu.clock}
  l2_cache_size: {gpu.cache}
  device_memory_size: {gpu.memory}
  memory_bandwidth: {int(gpu.bandwidth)}
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 }}
runtime_version {{ major: 12 minor: 8 }}
device_description_str: "{gpu.name}"
"""
