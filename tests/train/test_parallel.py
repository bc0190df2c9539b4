"""Eight devices give the numbers of one, under jit and under pmap.

In float64: normalizations amplify what another order of summation does to float32.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import train.parallel
from flaxmobile import Preprocessing
from flaxmobile.errors import InputError
from tests.networks import short_model
from tests.train.tiny import Tiny
from train.mixing import Mixing
from train.parallel import PARALLEL, make_parallel
from train.step import Objective, create_state

STEPS, BATCH = 3, 16
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (STEPS, BATCH, 64, 64, 3), np.uint8)
LABELS = RNG.integers(0, 5, (STEPS, BATCH)).astype(np.int32)


def compiled(function, *arguments):
    return function.lower(*arguments).compile()


def run(model, name, devices, variables):
    """Losses of a few steps, the state after them and an evaluation."""
    parallel = make_parallel(name, BATCH, devices)
    objective = Objective(
        model.clone(axis_name=parallel.axis_name),
        Preprocessing(64),
        optax.sgd(0.005, 0.9),
        lambda step: 0.005,
        mixing=Mixing(0.2, 1.0),
    )
    state, key = parallel.put_state(create_state(objective, variables)), jax.random.key(1)
    batches = [tuple(map(parallel.put_batch, batch)) for batch in zip(IMAGES, LABELS, strict=True)]
    step = compiled(parallel.train_step(objective), state, *batches[0], key)
    losses = []
    for batch in batches:
        state, metrics = step(state, *batch, key)
        losses.append(float(parallel.get(metrics)["loss"]))
    evaluate = compiled(parallel.eval_step(objective), state.variables, *batches[0])
    judged = evaluate(state.variables, *batches[0])
    return losses, parallel.get(state), jax.tree.map(parallel.get_batch, judged)


@pytest.fixture(scope="module", params=["tiny", "mobilenet_v2"])
def one_device(request):
    """The run on one device; dropout is on, and falls on the same values everywhere."""
    options = {"num_classes": 5, "dropout_rate": 0.3}
    model = Tiny(**options)
    if request.param == "mobilenet_v2":
        model = short_model("mobilenet_v2", alpha=0.1, **options)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    variables = jax.tree.map(np.float64, variables)
    model = model.clone(dtype=np.float64)
    with jax.enable_x64(True):
        return model, variables, run(model, "jit", jax.devices()[:1], variables)


@pytest.mark.parametrize("name", PARALLEL)
def test_eight_devices_give_the_numbers_of_one(one_device, name):
    model, variables, (losses, state, judged) = one_device
    with jax.enable_x64(True):
        given_losses, given_state, given_judged = run(model, name, jax.devices(), variables)
    np.testing.assert_allclose(given_losses, losses, rtol=1e-8)
    chex.assert_trees_all_close(given_state.batch_stats, state.batch_stats, rtol=1e-8, atol=1e-10)
    chex.assert_trees_all_close(given_state.params, state.params, rtol=1e-8, atol=1e-10)
    chex.assert_trees_all_close(given_judged, judged, rtol=1e-6)


@pytest.mark.parametrize("name", PARALLEL)
def test_a_batch_that_the_devices_do_not_divide_is_refused(name):
    with pytest.raises(InputError, match=r"20 cannot be divided among 8 devices; take 16 or 24"):
        make_parallel(name, 20)


def test_unknown_way_is_refused():
    with pytest.raises(InputError, match="jit, pmap"):
        make_parallel("pmat", 8)


def test_a_cpu_compiles_both_steps_with_options_of_its_own(monkeypatch):
    given = []
    unknown = {"xla_cpu_of_next_year": ""}
    monkeypatch.setattr(
        train.parallel, "training_options", lambda platform: given.append(platform) or unknown
    )
    model = Tiny(num_classes=5)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    objective = Objective(model, Preprocessing(64), optax.sgd(0.005), lambda step: 0.005)
    parallel = make_parallel("jit", BATCH, jax.devices()[:1])
    state = create_state(objective, variables)
    steps = (
        (parallel.train_step(objective), (state, IMAGES[0], LABELS[0], jax.random.key(1))),
        (parallel.eval_step(objective), (variables, IMAGES[0], LABELS[0])),
    )
    for step, arguments in steps:
        with pytest.raises(jax.errors.JaxRuntimeError, match="xla_cpu_of_next_year"):
            step.lower(*arguments).compile()
    assert given == ["cpu"]
