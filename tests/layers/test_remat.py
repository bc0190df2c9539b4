"""Recomputed blocks: the same step from fewer residuals."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxmobile.layers import AUX_LOGITS
from flaxmobile.registry import list_models
from tests.networks import abstract, random_variables, short_model, small_size

IMAGES = 6


def training_pass(model, images, remat):
    """A function of the parameters: logits, statistics and auxiliary logits."""

    def apply(params, stats):
        return model.clone(remat=remat).apply(
            {"params": params, "batch_stats": stats},
            images,
            train=True,
            mutable=["batch_stats", AUX_LOGITS],
            rngs={"dropout": jax.random.key(1)},
        )

    return apply


@pytest.mark.parametrize("name", list_models())
def test_less_is_kept_of_every_network(name):
    """Of the maps that blocks get, at stride 4 and deeper; counted from shapes alone."""
    model, size = short_model(name), small_size(name)

    def kept(remat):
        apply = training_pass(model, jnp.zeros((IMAGES, size, size, 3)), remat)
        variables = abstract(model)

        def residuals(params, stats):
            return jax.vjp(lambda params: apply(params, stats)[0], params)[1]

        leaves = jax.eval_shape(residuals, variables["params"], variables["batch_stats"])
        maps = [x for x in jax.tree.leaves(leaves) if x.ndim == 4 and len(x) == IMAGES]
        return sum(x.size for x in maps if x.shape[1] * 4 <= size)

    assert kept(remat=True) < 0.6 * kept(remat=False)


@pytest.mark.parametrize("name", ["mobilenet_v2", "shufflenet_v2"])
def test_gradients_and_statistics_stay_the_same(name):
    with jax.enable_x64(True):
        model = short_model(name, dtype=np.float64, dropout_rate=0.3)
        variables = jax.tree.map(np.float64, random_variables(model))
        images = np.random.default_rng(0).normal(size=(2, 64, 64, 3))

        def step(remat):
            apply = training_pass(model, images, remat)

            def loss_of(params):
                logits, updates = apply(params, variables["batch_stats"])
                return jnp.square(logits).sum(), updates

            return jax.jit(jax.value_and_grad(loss_of, has_aux=True))(variables["params"])

        chex.assert_trees_all_close(step(remat=True), step(remat=False), rtol=1e-9, atol=1e-9)
