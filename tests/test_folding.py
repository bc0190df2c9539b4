from functools import cache

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import freeze

import flaxmobile
from flaxmobile import folding
from tests.networks import (
    abstract,
    random_variables,
    short_backbone,
    short_model,
    small_backbone,
    small_model,
    small_size,
)

# All tests of a network in one worker: they share the folded network.
every_model = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.xdist_group(f"folding {name}"))
        for name in flaxmobile.list_models()
    ],
)


@cache
def folded_model(name):
    model = short_model(name)
    return flaxmobile.fold_batch_norm(model, random_variables(model))


@every_model
def test_outputs_stay_the_same(name, monkeypatch):
    """In float64, which variables have here alone: float32 rounds more than folding changes.

    Of a classifier and of its backbone, whose layers are compiled once.
    """
    monkeypatch.setattr(folding, "check_variables", lambda *trees: None)
    classifier, backbone = (
        create(name, dtype="float64") for create in (short_model, short_backbone)
    )
    variables = jax.tree.map(np.float64, random_variables(short_model(name)))
    own = abstract(short_backbone(name))
    part = {kind: {group: variables[kind][group] for group in own[kind]} for kind in own}
    size = small_size(name)
    images = np.random.default_rng(1).normal(size=(2, size + 1, size + 7, 3))
    with jax.enable_x64(True):
        plain = [(classifier, variables), (backbone, part)]
        folded = [flaxmobile.fold_batch_norm(*pair) for pair in plain]
        models, trees = zip(*plain, *folded, strict=True)
        run = jax.jit(
            lambda trees: [m.apply(tree, images) for m, tree in zip(models, trees, strict=True)],
        )
        outputs = run(trees)
    expected, found = outputs[:2], outputs[2:]
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        assert np.isfinite(a).all()
        assert np.abs(a).max() > 0.1
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-10 * np.abs(a).max())


@pytest.mark.parametrize("create", [small_model, small_backbone])
def test_outputs_stay_the_same_in_float32(create):
    model = create("mobilenet_v2")
    variables = random_variables(model)
    folded, folded_variables = flaxmobile.fold_batch_norm(model, variables)
    images = np.random.default_rng(1).normal(size=(2, 40, 33, 3)).astype(np.float32)
    expected, found = jax.jit(lambda a, b: (model.apply(a, images), folded.apply(b, images)))(
        variables, folded_variables
    )
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=2e-5 * np.abs(a).max())


@every_model
def test_no_normalization_is_left(name):
    folded, variables = folded_model(name)
    assert folded.folded
    assert set(variables) == {"params"}
    kinds = {row.kind for row in flaxmobile.summarize(folded, small_size(name)).rows}
    assert "norm" not in kinds
    assert "conv 1x1" in kinds


@every_model
def test_folded_variables_are_those_that_the_folded_model_makes(name):
    folded, variables = folded_model(name)
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), variables)
    assert shapes == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), abstract(folded))


def test_folding_leaves_the_given_model_and_variables_alone():
    model = small_model()
    variables = random_variables(model)
    flaxmobile.fold_batch_norm(model, variables)
    assert not model.folded
    for a, b in zip(
        jax.tree.leaves(variables), jax.tree.leaves(random_variables(model)), strict=True
    ):
        assert (a == b).all()


def test_frozen_variables_are_folded_too():
    model = small_model()
    variables = random_variables(model)
    _, expected = flaxmobile.fold_batch_norm(model, variables)
    _, found = flaxmobile.fold_batch_norm(model, freeze(variables))
    chex.assert_trees_all_equal(found, expected)


def test_epsilon_is_the_models():
    model = small_model(norm_epsilon=0.5)
    variables = random_variables(model)
    _, folded = flaxmobile.fold_batch_norm(model, variables)
    norm, stats = variables["params"]["stem"]["norm"], variables["batch_stats"]["stem"]["norm"]
    factor = norm["scale"] / np.sqrt(stats["var"] + 0.5)
    stem = folded["params"]["stem"]["conv"]
    np.testing.assert_allclose(stem["bias"], norm["bias"] - stats["mean"] * factor, rtol=1e-5)
    kernel = variables["params"]["stem"]["conv"]["kernel"]
    np.testing.assert_allclose(stem["kernel"], kernel * factor[None, None, None], rtol=1e-6)


def test_the_head_is_not_touched():
    model = small_model()
    variables = random_variables(model)
    _, folded = flaxmobile.fold_batch_norm(model, variables)
    for group in model.heads:
        for name, leaf in variables["params"][group].items():
            assert (folded["params"][group][name] == leaf).all()


def test_folding_twice_is_refused():
    model = small_model()
    folded, variables = flaxmobile.fold_batch_norm(model, random_variables(model))
    with pytest.raises(flaxmobile.InputError, match="folded already"):
        flaxmobile.fold_batch_norm(folded, variables)


@pytest.mark.parametrize("missing", ["params", "batch_stats"])
def test_variables_without_a_collection_are_refused(missing):
    model = small_model()
    variables = random_variables(model)
    del variables[missing]
    with pytest.raises(flaxmobile.InputError, match="accepted: params and batch_stats"):
        flaxmobile.fold_batch_norm(model, variables)


def _without_a_statistic(variables):
    del variables["batch_stats"]["stage3_block2"]["expand"]["norm"]["var"]


def _without_a_block(variables):
    del variables["params"]["stage3_block2"]


def _with_a_narrower_kernel(variables):
    conv = variables["params"]["stage3_block2"]["expand"]["conv"]
    conv["kernel"] = conv["kernel"][..., :1]


@pytest.mark.parametrize("spoil", [_without_a_statistic, _without_a_block, _with_a_narrower_kernel])
def test_variables_that_are_not_the_models_are_refused(spoil):
    model = small_model()
    variables = random_variables(model)
    spoil(variables)
    with pytest.raises(flaxmobile.InputError, match="stage3_block2"):
        flaxmobile.fold_batch_norm(model, variables)


def test_variables_of_another_width_are_refused():
    other = random_variables(small_model(alpha=0.5))
    with pytest.raises(flaxmobile.InputError, match="stage2_block1"):
        flaxmobile.fold_batch_norm(small_model(), other)


def test_bfloat16_is_folded_in_float32_and_sown_collections_are_left_out():
    model = small_model()
    variables = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), random_variables(model))
    _, found = flaxmobile.fold_batch_norm(model, {**variables, "aux_logits": {"a": (1.0,)}})
    wide = jax.tree.map(lambda leaf: leaf.astype(np.float32), variables)
    _, expected = flaxmobile.fold_batch_norm(model, wide)
    chex.assert_trees_all_equal(found, expected)
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {np.dtype("float32")}
