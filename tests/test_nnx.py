"""Networks as NNX modules: the numbers of Linen's, trained by NNX's own tools."""

import jax
import numpy as np
import optax
import pytest
from flax import nnx

import flaxmobile
from flaxmobile import InputError, NNXModel
from tests.networks import random_variables, short_backbone, short_model

OPTIONS = {"alpha": 0.35, "num_classes": 5}


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(8, 32, 32, 3)).astype(np.float32)


def same(a, b):
    return jax.tree.all(jax.tree.map(np.array_equal, a, b))


@pytest.mark.parametrize("model", [short_model("mobilenet_v2"), short_backbone("mobilenet_v1")])
def test_outputs_are_those_of_linen(model, images):
    variables = random_variables(model)
    found, expected = NNXModel(model, variables)(images), model.apply(variables, images)
    assert same(found, expected)


def test_it_is_trained_by_nnxs_optimizer(images):
    model = short_model(dropout_rate=0.3)
    network, labels = NNXModel(model, rngs=nnx.Rngs(0)), np.arange(8) % 5
    before = jax.tree.map(np.array, network.variables)
    optimizer = nnx.Optimizer(network, optax.adam(3e-3), wrt=nnx.Param)

    @nnx.jit
    def step(network, optimizer):
        def loss_of(network):
            logits = network(images)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        loss, gradients = nnx.value_and_grad(loss_of)(network)
        optimizer.update(network, gradients)
        return loss

    network.train()
    losses = [step(network, optimizer) for _ in range(8)]
    assert losses[-1] < losses[0] / 2
    network.eval()
    changed = jax.tree.map(lambda a, b: not np.array_equal(a, b), before, network.variables)
    assert jax.tree.all(changed)  # statistics too
    assert same(network(images), model.apply(network.variables, images))
    network.load(before)
    assert same(network.variables, before)


def test_it_is_made_by_name_and_its_variables_are_a_weights_directory(tmp_path):
    network = flaxmobile.create_model("v2", api="nnx", rngs=nnx.Rngs(3), **OPTIONS)
    flaxmobile.save_weights(tmp_path / "w", "v2", OPTIONS, network.variables)
    model, variables = flaxmobile.load_weights(tmp_path / "w")
    assert model == network.model
    again = NNXModel(model, variables)
    assert same(again.variables, network.variables)
    assert {type(leaf) for leaf in jax.tree.leaves(again.params, is_leaf=is_variable)} == {
        nnx.Param
    }


def is_variable(leaf):
    return isinstance(leaf, nnx.Variable)


def test_what_is_missing_is_said(images):
    model = short_model(dropout_rate=0.3)
    with pytest.raises(InputError, match=r"needs variables, or rngs=nnx.Rngs\(0\)"):
        NNXModel(model)
    network = NNXModel(model, random_variables(model))
    network.train()
    with pytest.raises(InputError, match="dropout needs random keys: make the network with rngs"):
        network(images)
    with pytest.raises(InputError, match="unknown api 'nxx'"):
        flaxmobile.create_model("v2", api="nxx")
    with pytest.raises(InputError, match='rngs are for api="nnx"'):
        flaxmobile.create_model("v2", rngs=nnx.Rngs(0))
