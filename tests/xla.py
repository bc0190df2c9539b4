"""Options of XLA: programs that run once are compiled without optimization, in half the time.

Imported before JAX is, so that it must not import JAX.
"""

from typing import Any

FLAGS = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
THOROUGH: dict[str, Any] = {"xla_backend_optimization_level": 3}
"""Compiler options of a user, for programs that are measured."""
