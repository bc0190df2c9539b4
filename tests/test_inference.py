"""`jit_inference`: the outputs of `apply`, a few images at a time on a CPU."""

import re

import jax
import numpy as np
import pytest

import flaxmobile
from flaxmobile import inference
from tests.networks import QUICK, random_variables, short_backbone, short_model, small_size


@pytest.mark.parametrize(
    ("create", "name"),
    [
        *((short_model, name) for name in flaxmobile.list_models()),
        (short_backbone, "mobilenet_v2"),
    ],
)
def test_outputs_are_those_of_apply(create, name, monkeypatch):
    """Of a whole group of images and of those that remain, through every block in parts."""
    monkeypatch.setattr(inference, "_IMAGES", 4)
    monkeypatch.setattr(inference, "_MAP_BYTES", 2**10)
    model, size = create(name), small_size(name)
    variables = random_variables(model)
    images = np.random.default_rng(0).normal(size=(6, size, size, 3)).astype(np.float32)
    expected = jax.jit(model.apply, compiler_options=QUICK)(variables, images)
    lowered = jax.jit(flaxmobile.jit_inference(model)).lower(variables, images)
    assert lowered.as_text().count("stablehlo.while") > 3
    found = lowered.compile(compiler_options=QUICK)(variables, images)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(b, a, atol=1e-4 * np.abs(a).max())


@pytest.mark.parametrize("count", [1, 7, 8, 19])
def test_any_number_of_images_gives_the_outputs_of_apply(count):
    model = short_model()
    infer, variables = flaxmobile.jit_inference(model), random_variables(model)
    images = np.random.default_rng(0).normal(size=(count, 48, 40, 3)).astype(np.float32)
    expected = jax.jit(model.apply, compiler_options=QUICK)(variables, images)
    found = infer(variables, images)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_inside_a_jit_it_computes_the_same():
    """JAX refuses compiler options there, so there are none."""
    model = short_model()
    infer, variables = flaxmobile.jit_inference(model), random_variables(model)
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    doubled = jax.jit(lambda v, x: 2 * infer(v, x), compiler_options=QUICK)(variables, images)
    expected = 2 * infer(variables, images)
    np.testing.assert_allclose(doubled, expected, atol=1e-5 * np.abs(expected).max())


def test_options_that_the_compiler_does_not_know_are_left_out(monkeypatch):
    inference._compiler_options.cache_clear()
    monkeypatch.setattr(inference, "_CPU_OPTIONS", {"xla_cpu_of_next_year": ""})
    assert inference._compiler_options() is None
    inference._compiler_options.cache_clear()


def test_on_a_cpu_matrix_products_are_eigens():
    if inference._compiler_options() is None:
        return  # this jaxlib has no choice
    function = jax.jit(lambda x: x @ x, compiler_options=inference._compiler_options())
    text = function.lower(np.ones((64, 64), np.float32)).compile().as_text()
    assert "ynn" not in text


def test_memory_on_a_cpu_does_not_grow_with_the_batch():
    model = short_model()
    infer, variables = jax.jit(flaxmobile.jit_inference(model)), random_variables(model)

    def temporary(count):
        images = jax.ShapeDtypeStruct((count, 64, 64, 3), np.float32)
        return infer.lower(variables, images).compile(QUICK).memory_analysis().temp_size_in_bytes

    assert temporary(64) < 1.1 * temporary(8)


@pytest.mark.parametrize(("platform", "loops"), [("cpu", 1), ("cuda", 0), ("tpu", 0)])
def test_accelerators_take_the_batch_as_a_whole(platform, loops):
    model = short_model()
    images = jax.ShapeDtypeStruct((16, 32, 32, 3), np.float32)
    exported = jax.export.export(jax.jit(flaxmobile.jit_inference(model)), platforms=[platform])
    text = exported(random_variables(model), images).mlir_module()
    assert len(re.findall(r"stablehlo\.while", text)) == loops
