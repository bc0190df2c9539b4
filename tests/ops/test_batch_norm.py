"""Batch normalization over a batch: its formula, its custom VJP, and a TPU's residuals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxmobile.ops import native_forms
from flaxmobile.ops.batch_norm import NormSettings, normalize

SHAPES = [(2, 48, 46, 5), (4, 7, 7, 16), (6, 5)]
"""A large map, a small one, and features."""

EPSILON = 0.1


def formula(x, scale, bias):
    axes = tuple(range(x.ndim - 1))
    mean = x.mean(axes, keepdims=True)
    var = jnp.square(x - mean).mean(axes, keepdims=True)
    lead = (1,) * (x.ndim - 1)
    y = (x - mean) / jnp.sqrt(var + EPSILON) * scale.reshape(*lead, -1) + bias.reshape(*lead, -1)
    return y, mean.reshape(-1), var.reshape(-1)


def arrays(shape):
    rng = np.random.default_rng(0)
    x = rng.normal(1, 2, shape)
    return [jnp.asarray(a) for a in (x, rng.uniform(0.5, 2, shape[-1]), rng.normal(size=shape[-1]))]


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients_are_the_formulas(shape, native):
    with jax.enable_x64(True):
        settings, inputs = NormSettings(EPSILON, np.float64, None), arrays(shape)

        def ours(*inputs):
            with native_forms(native):
                return normalize(settings, *inputs)

        def results(function):
            def loss(*inputs):
                y, mean, var = function(*inputs)
                return jnp.sin(y + jnp.arange(y.size).reshape(y.shape)).sum(), (y, mean, var)

            return jax.value_and_grad(loss, (0, 1, 2), has_aux=True)(*inputs)

        pairs = zip(*map(jax.tree.leaves, map(results, (ours, formula))), strict=True)
        for found, wanted in pairs:
            np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("platform", "barriers"), [("cpu", 0), ("cuda", 0), ("tpu", 1)])
def test_only_a_tpu_saves_packed_residuals(platform, barriers):
    def loss(x, scale, bias):
        return jnp.sin(normalize(NormSettings(EPSILON, np.float32, None), x, scale, bias)[0]).sum()

    shapes = [jax.ShapeDtypeStruct(shape, np.float32) for shape in ((2, 8, 8, 4), (4,), (4,))]
    export = jax.export.export(jax.jit(jax.grad(loss)), platforms=[platform])
    text = export(*shapes).mlir_module()
    assert text.count("stablehlo.optimization_barrier") == barriers
