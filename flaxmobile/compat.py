"""Interfaces of JAX and Orbax that are not public, each with a substitute.

A release that moves one of them breaks no import. The docstrings say what the substitutes cost.
"""

import importlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def find(module: str, name: str) -> Any:
    """Return an attribute of a module, or None if this release does not have it."""
    try:
        return getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None


_trace_state = find("jax.extend.core", "get_opaque_trace_state")
_max_dim = find("jax.core", "max_dim")
_as_function = find("jax.extend.core", "jaxpr_as_fun")

try:
    with ThreadPoolExecutor(1) as thread:  # the importing thread may be tracing
        _UNTRACED = thread.submit(_trace_state, convention="flax").result()
except TypeError:  # missing, or called in another way
    _trace_state = None


def is_traced(*arguments: Any) -> bool:
    """Tell whether a call is inside a transformation of JAX (jit, grad, vmap, …).

    The substitute looks for tracers among the arguments, which takes 0.1 ms for a network's.
    """
    if _trace_state is not None:
        return bool(_trace_state(convention="flax") != _UNTRACED)
    leaves = jax.tree.leaves((arguments, jnp.zeros(())))  # within jit, new arrays are tracers too
    return any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)


def is_constant(x: Any) -> bool:
    """Tell whether an array has numbers now, and is no argument or result of a traced function."""
    return not isinstance(x, jax.core.Tracer)


def max_dim(a: Any, b: Any) -> Any:
    """Return the larger of two dimensions, which may be symbolic.

    The substitute's is an array where one is symbolic.
    """
    if _max_dim is not None:
        return _max_dim(a, b)
    return max(a, b) if isinstance(a, int) and isinstance(b, int) else jnp.maximum(a, b)


def varying_axes(x: Any) -> frozenset[Any]:
    """Axes of the mesh over which an array varies inside `jax.shard_map`.

    The substitute finds none: gradients inside `jax.shard_map` then need `check_vma=False`.
    """
    manual = getattr(jax.typeof(x), "manual_axis_type", None)
    return frozenset(getattr(manual, "varying", ()))


def is_in_cluster() -> bool:
    """Tell whether `jax.distributed.initialize()` finds the other processes by itself.

    It does on Cloud TPU pods, Slurm, Open MPI and others. The substitute finds none.
    """
    environment: Any = find("jax._src.clusters", "ClusterEnv")
    kinds = getattr(environment, "_cluster_types", ())
    return any(not kind.opt_in_only_method and kind.is_env_present() for kind in kinds)


def composite_attributes(equation: Any) -> dict[str, Any]:
    """Return the attributes of a composite operation in a jaxpr, by name.

    JAX keeps them flattened, with arrays in a hashable cover.
    """
    attributes = equation.params["attributes"]
    return {name: getattr(leaf, "val", leaf) for name, (leaf,), _ in attributes}


def count_cost(lowered: Any, compiled: Any, parts: int) -> dict[str, float] | None:
    """Count the operations and memory traffic of a device, where its compiler does not: a GPU's.

    Operations are those of the lowered program, which is divided among a number of devices, because
    compilation makes calls of cuDNN out of convolutions; bytes are those of the compiled one. The
    substitute is None.
    """
    count = getattr(find("jax._src.lib", "_jax"), "hlo_module_cost_analysis", None)
    if count is None:
        return None
    client = jax.devices("cpu")[0].client
    whole = count(client, lowered.compiler_ir("hlo").as_hlo_module())
    part = count(client, compiled.runtime_executable().hlo_modules()[0])
    return {"flops": whole["flops"] / parts, "bytes accessed": part["bytes accessed"]}


def run_jaxpr(jaxpr: Any, inputs: Sequence[Any]) -> list[Any]:
    """Compute the outputs of a closed jaxpr as one compiled program.

    The substitute computes one operation after the other, each a program.
    """
    if _as_function is not None:
        return list(jax.jit(_as_function(jaxpr))(*inputs))
    variables = (*jaxpr.jaxpr.constvars, *jaxpr.jaxpr.invars)
    values = dict(zip(variables, (*jaxpr.consts, *inputs), strict=True))

    def read(atom: Any) -> Any:
        return atom.val if hasattr(atom, "val") else values[atom]

    for equation in jaxpr.jaxpr.eqns:
        inner = equation.params.get("jaxpr")
        arguments = list(map(read, equation.invars))
        if inner is not None:
            results = run_jaxpr(inner, arguments)
        else:
            result = equation.primitive.bind(*arguments, **equation.params)
            results = result if equation.primitive.multiple_results else [result]
        values.update(zip(equation.outvars, results, strict=True))
    return list(map(read, jaxpr.jaxpr.outvars))


def make_checkpoint_handler(part: int) -> Any:
    """Make a handler of pytrees for Orbax that writes NumPy arrays `part` bytes at a time.

    Orbax and its store hold copies of the arrays that they write. The substitute is Orbax's own
    handler, which holds copies of all.
    """
    import orbax.checkpoint as ocp

    handlers = "orbax.checkpoint.type_handlers"
    numpy_handler: Any = find(handlers, "NumpyHandler")
    array_handler = find(handlers, "ArrayHandler")
    make_registry = find(handlers, "create_type_handler_registry")
    if numpy_handler is None or array_handler is None or make_registry is None:
        return ocp.PyTreeCheckpointHandler()

    class InParts(numpy_handler):
        async def serialize(
            self,
            values: Sequence[np.ndarray],
            infos: Sequence[Any],
            args: Sequence[Any] | None = None,
        ) -> Sequence[Any]:
            parts = np.cumsum([value.nbytes for value in values]) // part
            begins = [0, *(np.flatnonzero(np.diff(parts)) + 1).tolist(), len(values)]
            for some in map(slice, begins, begins[1:]):
                written = await super().serialize(values[some], infos[some], args and args[some])
                for future in written:
                    future.result()
            return []

    # No jax.Array is written, but Orbax warns if their handler is missing.
    registry = make_registry((np.ndarray, InParts()), (jax.Array, array_handler()))
    return ocp.PyTreeCheckpointHandler(type_handler_registry=registry)
