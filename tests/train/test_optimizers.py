"""Schedules and optimizers against their formulas."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LambdaLR,
    LinearLR,
    MultiStepLR,
    SequentialLR,
)

from flaxmobile.errors import InputError
from train.config import Config
from train.optimizers import make_optimizer, make_schedule, scale_rates


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


STEPS, WARMUP = 100, 10
TORCH_SCHEDULES = {
    "constant": lambda optimizer, rest: ConstantLR(optimizer, 1.0, 1),
    "cosine": lambda optimizer, rest: CosineAnnealingLR(optimizer, rest),
    "linear": lambda optimizer, rest: LinearLR(optimizer, 1.0, 0.0, rest),
    "exponential": lambda optimizer, rest: LambdaLR(
        optimizer, lambda step: 0.5 ** ((step + STEPS - rest) // 25)
    ),
    "step": lambda optimizer, rest: MultiStepLR(
        optimizer, [30 - (STEPS - rest), 80 - (STEPS - rest)], 0.5
    ),
}


@pytest.mark.parametrize("warmup", [0, WARMUP])
@pytest.mark.parametrize("schedule", TORCH_SCHEDULES)
def test_a_whole_run_has_the_rates_of_torchs_schedulers(schedule, warmup):
    settings = {"decay_rate": 0.5, "decay_epochs": 2.5, "milestones": (3.0, 8.0)}
    ours = rates(range(STEPS), schedule=schedule, warmup_epochs=warmup / 10, **settings)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 1.0)
    main = TORCH_SCHEDULES[schedule](optimizer, STEPS - warmup)
    scheduler = main
    if warmup:
        rise = LinearLR(optimizer, 1 / warmup, 1.0, warmup - 1)
        scheduler = SequentialLR(optimizer, [rise, main], [warmup])
    theirs = []
    for _ in range(STEPS):
        theirs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)


PARAMS = {
    "conv": {"kernel": np.full((1, 1, 2, 2), 2.0, np.float32), "bias": np.ones(2, np.float32)},
    "norm": {"scale": np.ones(2, np.float32), "bias": np.ones(2, np.float32)},
}


def updates(steps=1, gradient=0.0, **settings):
    optimizer = make_optimizer(Config(**settings), lambda step: 0.1, 10)
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


def follow(settings, steps, make_torch, clip=None):
    """Parameters after steps on the same gradients, of ours and of torch's optimizer."""
    rng = np.random.default_rng(0)
    start = rng.normal(size=(3, 4)).astype(np.float32)
    gradients = rng.normal(size=(steps, 3, 4)).astype(np.float32)
    optimizer = make_optimizer(Config(**settings), lambda step: 0.1 / (1 + step), 10)
    params, reference = {"kernel": jnp.asarray(start)}, torch.nn.Parameter(torch.tensor(start))
    state, torchs = optimizer.init(params), make_torch([reference])
    for step, gradient in enumerate(gradients):
        updates, state = optimizer.update({"kernel": gradient}, state, params)
        params = optax.apply_updates(params, updates)
        reference.grad = torch.tensor(gradient)
        if clip:
            torch.nn.utils.clip_grad_norm_([reference], clip)
        torchs.param_groups[0]["lr"] = 0.1 / (1 + step)
        torchs.step()
    return params["kernel"], reference.detach().numpy()


def test_rmsprop_of_torch():
    ours, torchs = follow(
        {"optimizer": "rmsprop-torch", "weight_decay": 0.01, "rho": 0.9, "epsilon": 0.0316},
        5,
        lambda params: torch.optim.RMSprop(
            params, alpha=0.9, eps=0.0316, momentum=0.9, weight_decay=0.01
        ),
    )
    np.testing.assert_allclose(ours, torchs, rtol=1e-5)


def test_gradients_are_clipped_by_their_norm_as_torchs():
    ours, torchs = follow(
        {"optimizer": "sgd", "weight_decay": 0.01, "clip": 2.0},
        5,
        lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9, weight_decay=0.01),
        clip=2.0,
    )
    np.testing.assert_allclose(ours, torchs, rtol=1e-5)


def test_checkpoints_of_version_0_1_fit():
    """Their optimizer states are in no chain of one."""
    decay, schedule = optax.add_decayed_weights(0.0), optax.constant_schedule(0.1)
    for name, expected in {
        "sgd": optax.chain(decay, optax.sgd(schedule, 0.9)),
        "adamw": optax.adamw(schedule),
    }.items():
        given = make_optimizer(Config(optimizer=name), schedule, 10).init(PARAMS)
        names = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(given)]
        like = jax.tree.leaves_with_path(expected.init(PARAMS))
        assert names == [jax.tree_util.keystr(path) for path, _ in like]


def test_rates_are_scaled_by_name_and_for_some_epochs():
    settings = {"optimizer": "adam", "lr_scale": ("conv/.*=0@0.2", "norm/scale=0.5")}
    plain, scaled = (
        [updates(steps, gradient=1.0, optimizer="adam", **given) for steps in (2, 3)]
        for given in ({}, {"lr_scale": settings["lr_scale"]})
    )
    for before, after, frozen in zip(plain, scaled, (True, False), strict=True):
        expected = {
            "conv": jax.tree.map(lambda u, f=frozen: u * (not f), before["conv"]),
            "norm": {"scale": before["norm"]["scale"] * 0.5, "bias": before["norm"]["bias"]},
        }
        chex.assert_trees_all_close(after, expected, rtol=1e-6)


@pytest.mark.parametrize("text", ["conv", "=1", "conv=x", "conv=-1", "(=1", "conv=1@", "conv=1@-2"])
def test_a_scale_that_cannot_be_read_is_refused(text):
    with pytest.raises(InputError, match="accepted: PATTERN=FACTOR or PATTERN=FACTOR@EPOCHS"):
        scale_rates([text], 10)


def test_a_scale_of_no_parameter_is_refused():
    with pytest.raises(InputError, match=r"stem=0 matches no trained parameter; .* conv, norm"):
        scale_rates(["stem=0"], 10).init(PARAMS)
