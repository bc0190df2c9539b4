"""`materialize_on_cpu`: how often the CPU computes a value that is used twice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxmobile.compiler import inference_options
from flaxmobile.ops import materialize_on_cpu
from tests.xla import THOROUGH


def twice_used(x):
    y = materialize_on_cpu(jnp.maximum(x, 0))
    return y[:, :4] @ jnp.ones((4, 2)), y[:, 4:] @ jnp.ones((4, 2))


def test_values_and_gradients_are_those_of_the_argument():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 8)), jnp.float32)
    np.testing.assert_array_equal(jax.jit(materialize_on_cpu)(x), x)
    gradient = jax.grad(lambda x: jnp.sin(jax.vmap(materialize_on_cpu)(x)).sum())(x)
    np.testing.assert_allclose(gradient, jnp.cos(x), atol=1e-6)


def test_it_is_computed_once_for_both_uses():
    once = jax.jit(twice_used, compiler_options=inference_options())
    text = once.lower(jnp.zeros((512, 8))).compile(THOROUGH).as_text()
    assert text.count(" maximum(") == 1


@pytest.mark.parametrize(("platform", "barriers"), [("cpu", 1), ("cuda", 0), ("tpu", 0)])
def test_accelerators_choose_for_themselves(platform, barriers):
    export = jax.export.export(jax.jit(twice_used), platforms=[platform])
    text = export(jax.ShapeDtypeStruct((2, 8), np.float32)).mlir_module()
    assert text.count("stablehlo.optimization_barrier") == barriers
