"""`jit_inference`: the outputs of `apply`, two images at a time on a CPU."""

import re

import jax
import numpy as np
import pytest

import flaxmobile
from tests.networks import QUICK, random_variables, small_backbone, small_model


@pytest.mark.parametrize(
    ("create", "count"), [*((small_model, count) for count in (1, 2, 4, 7)), (small_backbone, 3)]
)
def test_outputs_are_those_of_apply(create, count):
    model = create()
    variables = random_variables(model)
    images = np.random.default_rng(0).normal(size=(count, 32, 40, 3)).astype(np.float32)
    expected = jax.jit(model.apply, compiler_options=QUICK)(variables, images)
    lowered = flaxmobile.jit_inference(model).lower(variables, images)
    found = lowered.compile(compiler_options=QUICK)(variables, images)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(b, a, atol=1e-5 * np.abs(a).max())


def test_memory_on_a_cpu_does_not_grow_with_the_batch():
    model = small_model()
    infer, variables = flaxmobile.jit_inference(model), random_variables(model)

    def temporary(count):
        images = jax.ShapeDtypeStruct((count, 64, 64, 3), np.float32)
        return infer.lower(variables, images).compile().memory_analysis().temp_size_in_bytes

    assert temporary(32) < 1.5 * temporary(2)


@pytest.mark.parametrize(("platform", "loops"), [("cpu", 1), ("cuda", 0), ("tpu", 0)])
def test_accelerators_take_the_batch_as_a_whole(platform, loops):
    model = small_model()
    images = jax.ShapeDtypeStruct((8, 32, 32, 3), np.float32)
    exported = jax.export.export(flaxmobile.jit_inference(model), platforms=[platform])
    text = exported(random_variables(model), images).mlir_module()
    assert len(re.findall(r"stablehlo\.while", text)) == loops
