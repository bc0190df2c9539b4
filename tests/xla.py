"""Options of XLA: programs that run once are compiled in a third of the time, without optimization.

Imported before JAX is, so that it must not import JAX.
"""

from importlib.metadata import version
from typing import Any

FLAGS = ["--xla_force_host_platform_device_count=8", "--xla_backend_optimization_level=0"]
THOROUGH: dict[str, Any] = {"xla_backend_optimization_level": 3}
"""Compiler options of a user, for programs that are measured."""

if tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 11):  # later ones have no choice of it
    # Behind these emitters, without optimization, YNNPACK's sums can be wrong: gradients of
    # Inception-ResNet-v2 by 40 percent. Without the emitters they are right to 1e-13.
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")
    THOROUGH["xla_cpu_use_fusion_emitters"] = True
