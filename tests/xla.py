"""Options of XLA: programs that run once are compiled without optimization, in a third of the time.

Imported before JAX is, so that it must not import JAX.
"""

from importlib.metadata import version
from typing import Any

QUICK = ["--xla_backend_optimization_level=0"]
THOROUGH: dict[str, Any] = {"xla_backend_optimization_level": 3}
"""Compiler options of a user, for programs that are measured."""
OPTIMIZED = {"xla_backend_optimization_level": 1}
"""For programs that compute longer than they are compiled."""

if tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 11):  # later ones have no choice of it
    # The older emitters make a kernel in a third of the time. YNNPACK's sums are wrong behind them,
    # Inception-ResNet-v2's gradients by 40 percent, so that it makes products alone.
    products = "individual_dot,individual_convolution"
    QUICK += [
        "--xla_cpu_use_fusion_emitters=false",
        f"--xla_cpu_experimental_ynn_fusion_type={products}",
    ]
    fusions = [f"LIBRARY_FUSION_TYPE_{name}" for name in f"{products},reduce".upper().split(",")]
    THOROUGH |= {
        "xla_cpu_use_fusion_emitters": True,
        "xla_cpu_experimental_ynn_fusion_type": ",".join(fusions),
    }

FLAGS = ["--xla_force_host_platform_device_count=8", *QUICK]
