"""Learning-rate schedules and optimizers, from a run's settings."""

from typing import Any

import jax
import optax

from train.config import Config


def make_schedule(config: Config, steps_per_epoch: int, total_steps: int) -> optax.Schedule:
    """Build the learning rate as a function of the step.

    The rate rises linearly over the warm-up, then follows the schedule. Drops count from the first
    step of the run, as in TensorFlow's and torchvision's recipes; cosine and linear reach 0 at the
    end of the run.
    """
    peak, warmup = config.learning_rate, round(config.warmup_epochs * steps_per_epoch)
    rest = max(1, total_steps - warmup)
    main: optax.Schedule
    match config.schedule:
        case "constant":
            main = optax.constant_schedule(peak)
        case "cosine":
            main = optax.cosine_decay_schedule(peak, rest)
        case "linear":
            main = optax.linear_schedule(peak, 0.0, rest)
        case "exponential":
            drop = max(1, round(config.decay_epochs * steps_per_epoch))
            decay = optax.exponential_decay(peak, drop, config.decay_rate, staircase=True)
            main = _from_first_step(decay, warmup)
        case "step":
            drops = {round(m * steps_per_epoch): config.decay_rate for m in config.milestones}
            main = _from_first_step(optax.piecewise_constant_schedule(peak, drops), warmup)
    if warmup == 0:
        return main
    # The first step has rate peak / warmup: at rate 0 it would be wasted.
    rise = optax.linear_schedule(peak / warmup, peak, max(1, warmup - 1))
    return optax.join_schedules([rise, main], [warmup])


def _from_first_step(schedule: optax.Schedule, warmup: int) -> optax.Schedule:
    """Count steps from the start of the run: `join_schedules` counts from the warm-up's end."""
    return lambda step: schedule(step + warmup)


def make_optimizer(config: Config, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Build the optimizer; normalization and biases have no weight decay.

    `rmsprop` is TensorFlow's: epsilon inside the root, the mean square starts at 1, and the rate is
    applied before the momentum. Its numbers (0.9, 0.9, 0.002) are the model garden's for V3.
    """
    decay = optax.add_decayed_weights(config.weight_decay, mask=_kernels)
    match config.optimizer:
        case "sgd":
            return optax.chain(decay, optax.sgd(schedule, config.momentum))
        case "adam":
            return optax.chain(decay, optax.adam(schedule))
        case "adamw":
            return optax.adamw(schedule, weight_decay=config.weight_decay, mask=_kernels)
        case "rmsprop":
            rmsprop = optax.rmsprop(
                schedule,
                decay=0.9,
                eps=0.002,
                momentum=config.momentum,
                eps_in_sqrt=True,
                initial_scale=1.0,
            )
            return optax.chain(decay, rmsprop)


def _kernels(params: Any) -> Any:
    """Select the leaves that decay: kernels have several axes, scales and biases one."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
