"""Interfaces of JAX and Orbax that are not public, with substitutes.

A release that moves one of them breaks no import. The docstrings say what the substitutes cost;
jaxprs, which the exporters read, have none.
"""

import importlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
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


class Operation:
    """An operation of a jaxpr.

    Attributes:
      name: of its primitive, such as "add".
      params: its static arguments, by name.
      inputs, outputs: shapes and types.
      inner: the jaxpr of a function that it calls once, or of a composite; None for others.
    """

    def __init__(self, equation: Any) -> None:
        self._primitive = equation.primitive
        self.name: str = equation.primitive.name
        self.params: Mapping[str, Any] = equation.params
        self.inputs = [atom.aval for atom in equation.invars]
        self.outputs = [atom.aval for atom in equation.outvars]
        calls = self.name != "scan"  # which repeats its jaxpr
        self.inner = self.params.get("jaxpr", self.params.get("call_jaxpr")) if calls else None

    def run(self, arrays: Sequence[Any]) -> list[Any]:
        """Compute the outputs, one operation of the inner jaxpr after the other."""
        if self.inner is not None:
            return walk_jaxpr(self.inner, arrays, Operation.run)
        result = self._primitive.bind(*arrays, **self.params)
        return list(result) if self._primitive.multiple_results else [result]

    @property
    def attributes(self) -> dict[str, Any]:
        """Attributes of a composite, by name.

        JAX keeps them flattened, with arrays in a hashable cover.
        """
        attributes = self.params["attributes"]
        return {name: getattr(leaf, "val", leaf) for name, (leaf,), _ in attributes}


def walk_jaxpr(
    jaxpr: Any,
    inputs: Sequence[Any],
    visit: Callable[[Operation, list[Any]], Sequence[Any]],
    read: Callable[[Any, int], Any] = lambda value, uses: value,
) -> list[Any]:
    """Follow values of any kind through the operations of a jaxpr.

    Args:
      jaxpr: closed; its constants are NumPy arrays to `read`.
      inputs: its values.
      visit: operation, values of its inputs -> values of its outputs.
      read: value, number of its uses -> the value as it is visited or returned.

    Returns:
      The values of its outputs.
    """
    jaxpr, constants = jaxpr.jaxpr, map(np.asarray, jaxpr.consts)
    values = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*constants, *inputs), strict=True))
    atoms = (*(each.invars for each in jaxpr.eqns), jaxpr.outvars)
    uses = Counter(atom for atom in chain.from_iterable(atoms) if not hasattr(atom, "val"))

    def look_up(atom: Any) -> Any:
        if hasattr(atom, "val"):
            return read(np.asarray(atom.val, atom.aval.dtype), 1)
        return read(values[atom], uses[atom])

    for equation in jaxpr.eqns:
        results = visit(Operation(equation), list(map(look_up, equation.invars)))
        values.update(zip(equation.outvars, results, strict=True))
    return list(map(look_up, jaxpr.outvars))


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
