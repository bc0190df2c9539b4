"""Schedules and optimizers against their formulas."""

import jax.numpy as jnp
import numpy as np
import pytest

from train.config import Config
from train.optimizers import make_optimizer, make_schedule


def rates(steps, **settings):
    """Learning rates of 10 steps per epoch over 10 epochs."""
    schedule = make_schedule(Config(learning_rate=1.0, **settings), 10, 100)
    return [float(schedule(step)) for step in steps]


def test_constant():
    assert rates([0, 50, 99], schedule="constant") == [1, 1, 1]


def test_cosine_falls_from_the_peak_to_zero():
    expected = [(1 + np.cos(np.pi * step / 100)) / 2 for step in (0, 25, 50, 99, 100)]
    np.testing.assert_allclose(rates([0, 25, 50, 99, 100], schedule="cosine"), expected, atol=1e-7)


def test_linear_falls_from_the_peak_to_zero():
    np.testing.assert_allclose(rates([0, 25, 100], schedule="linear"), [1, 0.75, 0], atol=1e-7)


def test_exponential_is_a_staircase():
    given = rates([0, 24, 25, 49, 50], schedule="exponential", decay_rate=0.5, decay_epochs=2.5)
    assert given == [1, 1, 0.5, 0.5, 0.25]


@pytest.mark.parametrize("warmup_epochs", [0.0, 1.0])
def test_step_drops_with_the_first_step_of_a_milestones_epoch(warmup_epochs):
    """As torch's MultiStepLR does, with and without a warm-up."""
    settings = {"decay_rate": 0.5, "milestones": (3.0, 8.0), "warmup_epochs": warmup_epochs}
    assert rates([29, 30, 79, 80, 99], schedule="step", **settings) == [1, 0.5, 0.5, 0.25, 0.25]


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear", "exponential", "step"])
def test_warmup_rises_linearly_to_the_peak(schedule):
    given = rates(range(11), schedule=schedule, warmup_epochs=1.0)
    np.testing.assert_allclose(given[:10], np.arange(1, 11) / 10, rtol=1e-6)
    assert given[10] == 1


def test_drops_are_counted_from_the_first_step_of_the_run():
    settings = {"schedule": "exponential", "decay_rate": 0.5, "decay_epochs": 2.0}
    assert rates([19, 20], warmup_epochs=1.0, **settings) == [1, 0.5]


PARAMS = {
    "conv": {"kernel": np.full((1, 1, 2, 2), 2.0, np.float32), "bias": np.ones(2, np.float32)},
    "norm": {"scale": np.ones(2, np.float32), "bias": np.ones(2, np.float32)},
}


def updates(steps=1, gradient=0.0, **settings):
    optimizer = make_optimizer(Config(**settings), lambda step: 0.1)
    state = optimizer.init(PARAMS)
    gradients = {
        group: {name: np.full_like(leaf, gradient) for name, leaf in leaves.items()}
        for group, leaves in PARAMS.items()
    }
    for _ in range(steps):
        update, state = optimizer.update(gradients, state, PARAMS)
    return update


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "rmsprop"])
def test_weight_decay_leaves_norms_and_biases_alone(optimizer):
    update = updates(optimizer=optimizer, weight_decay=0.5)
    assert jnp.all(update["conv"]["kernel"] < 0)
    for leaf in (update["conv"]["bias"], update["norm"]["scale"], update["norm"]["bias"]):
        assert jnp.all(leaf == 0)


def test_sgd_momentum_is_the_reference_formula():
    velocity = 0.0
    for _ in range(3):
        velocity = 0.9 * velocity + (1.0 + 0.5 * 2.0)  # L2: decay * weight joins the gradient
    given = updates(3, gradient=1.0, optimizer="sgd", weight_decay=0.5)
    np.testing.assert_allclose(given["conv"]["kernel"], -0.1 * velocity, rtol=1e-6)


def test_rmsprop_is_tensorflows():
    mean_square, momentum = 1.0, 0.0  # TensorFlow starts the mean square at 1
    for _ in range(3):
        mean_square = 0.9 * mean_square + 0.1 * 4.0
        momentum = 0.9 * momentum + 0.1 * 2.0 / np.sqrt(mean_square + 0.002)
    given = updates(3, gradient=2.0, optimizer="rmsprop", weight_decay=0.0)
    np.testing.assert_allclose(given["conv"]["bias"], -momentum, rtol=1e-5)


def test_adamw_decay_is_decoupled():
    given = updates(gradient=0.0, optimizer="adamw", weight_decay=0.5)
    np.testing.assert_allclose(given["conv"]["kernel"], -0.1 * 0.5 * 2.0, rtol=1e-6)
