"""The interfaces that are not public, and their substitutes in a JAX that lacks them."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax import export
from jax.sharding import PartitionSpec

from flaxmobile import compat
from flaxmobile.compat import Operation, walk_jaxpr


def fresh():
    """Execute the module once more, beside the one that the library uses."""
    spec = importlib.util.find_spec("flaxmobile.compat")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=["as it is", "substitute"])
def module(request, monkeypatch):
    """The module with JAX and Orbax as they are, and as if they lacked the interfaces."""
    if request.param == "substitute":
        monkeypatch.delattr("jax.extend.core.get_opaque_trace_state")
        monkeypatch.delattr("jax.core.max_dim")
        monkeypatch.delattr("orbax.checkpoint.type_handlers.NumpyHandler")
    return fresh()


def test_interfaces_of_this_release_are_found():
    assert compat._trace_state is not None
    assert compat._max_dim is not None


def test_a_changed_interface_breaks_no_import(monkeypatch):
    monkeypatch.setattr("jax.extend.core.get_opaque_trace_state", lambda: None)
    module, seen = fresh(), []
    jax.jit(lambda x: seen.append(module.is_traced(x)) or x)(1)
    assert seen == [True]
    assert not module.is_traced(1)


def test_transformations_are_seen(module):
    seen = []

    def see(x, argument=None):
        seen.append(module.is_traced(x if argument is None else argument))
        return x.sum()

    ones = jnp.ones(3)
    see(ones)
    jax.vmap(see)(ones)
    jax.grad(see)(ones)
    jax.jit(lambda x: see(x, np.ones(3)))(ones)  # its argument is no tracer
    assert seen == [False, True, True, True]


def test_a_module_that_is_imported_while_jax_traces_knows_it():
    modules = []
    jax.jit(lambda x: modules.append(fresh()) or x)(1)
    assert not modules[0].is_traced()


def test_the_larger_of_two_dimensions_may_be_symbolic(module):
    assert module.max_dim(2, 3) == module.max_dim(3, 2) == 3
    shape = export.symbolic_shape("n")
    function = jax.jit(lambda x: x.sum() / module.max_dim(x.shape[0] - 1, 1))
    exported = export.export(function)(jax.ShapeDtypeStruct(shape, jnp.float32))
    assert [float(exported.call(jnp.ones(n))) for n in (1, 3)] == [1.0, 1.5]


def test_a_jaxpr_is_computed():
    def function(x, y):
        low, high = jnp.split(jax.jit(jnp.clip)(x + np.arange(4), 1, 4), 2)
        total, _ = jax.lax.scan(lambda carry, each: (carry + each, None), y, high)
        return high * y, jax.nn.relu6(-low), total, y

    inputs = [np.ones(4), np.float32(3)]
    found = walk_jaxpr(jax.make_jaxpr(function)(*inputs), inputs, Operation.run)
    assert [np.asarray(each).tolist() for each in found] == [[9, 12], [0, 0], 10, 3]


def test_values_are_read_with_the_number_of_their_uses():
    jaxpr = jax.make_jaxpr(lambda x, y: jax.jit(lambda x: x * x)(x) + y + y)(1, 2)
    read = []

    def visit(operation, values):
        inner = operation.inner
        return walk_jaxpr(inner, values, visit, look_up) if inner else [operation.name]

    def look_up(value, uses):
        read.append((value, uses))
        return value

    assert walk_jaxpr(jaxpr, ["x", "y"], visit, look_up) == ["add"]
    assert read == [
        ("x", 1), ("x", 2), ("x", 2), ("mul", 1), ("mul", 1), ("y", 2), ("add", 1), ("y", 2),
        ("add", 1),
    ]  # fmt: skip


def test_axes_over_which_an_array_varies_are_known_or_none(monkeypatch):
    axes = []

    def see(x):
        axes.append(compat.varying_axes(x))
        return x

    spec = PartitionSpec("data")
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    jax.shard_map(see, mesh=mesh, in_specs=spec, out_specs=spec)(jnp.ones(4))
    assert axes == [{"data"}]
    monkeypatch.setattr(jax, "typeof", lambda x: object())
    assert compat.varying_axes(jnp.ones(4)) == frozenset()


def test_checkpoints_are_written_in_parts_or_at_once(module, tmp_path):
    tree = {name: np.full(100, i, np.float32) for i, name in enumerate("abc")}
    with ocp.Checkpointer(module.make_checkpoint_handler(500)) as checkpointer:
        checkpointer.save(tmp_path / "a", tree)
    with ocp.StandardCheckpointer() as checkpointer:
        restored = checkpointer.restore(tmp_path / "a", tree)
    jax.tree.map(np.testing.assert_array_equal, restored, tree)
