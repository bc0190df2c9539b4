"""Learning-rate schedules and optimizers, from a run's settings."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from flaxmobile.errors import InputError
from flaxmobile.trees import PyTree, named_leaves
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
    return optax.join_schedules([lambda step: peak * (step + 1) / warmup, main], [warmup])


def _from_first_step(schedule: optax.Schedule, warmup: int) -> optax.Schedule:
    """Count steps from the start of the run: `join_schedules` counts from the warm-up's end."""
    return lambda step: schedule(step + warmup)


def make_optimizer(
    config: Config, schedule: optax.Schedule, steps_per_epoch: int
) -> optax.GradientTransformation:
    """Build the optimizer; normalization and biases have no weight decay.

    Gradients are clipped first. The rate of each parameter is scaled last, weight decay with it.

    Raises:
      InputError: a scale of the learning rate that cannot be read.
    """
    parts = [_make_update(config, schedule)]
    if config.clip:
        parts.insert(0, optax.clip_by_global_norm(config.clip))
    if config.lr_scale:
        parts.append(scale_rates(config.lr_scale, steps_per_epoch))
    # A chain of one would change the optimizer state that checkpoints of version 0.1 have.
    return optax.chain(*parts) if len(parts) > 1 else parts[0]


def _make_update(config: Config, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Build the optimizer without clipping and scaling.

    `rmsprop` is TensorFlow's: epsilon inside the root, the mean square starts at 1, and the rate is
    applied before the momentum. Its numbers (0.9, 0.9, 0.002) are the model garden's for V3.
    `rmsprop-torch` has epsilon outside, starts at 0, and applies the rate after the momentum;
    torchvision's V3 has 0.0316.
    """
    decay = optax.add_decayed_weights(config.weight_decay, mask=_kernels)
    rho, epsilon = config.rho, config.epsilon
    match config.optimizer:
        case "sgd":
            return optax.chain(decay, optax.sgd(schedule, config.momentum, config.nesterov))
        case "adam":
            return optax.chain(decay, optax.adam(schedule, eps=epsilon or 1e-8))
        case "adamw":
            return optax.adamw(
                schedule, eps=epsilon or 1e-8, weight_decay=config.weight_decay, mask=_kernels
            )
        case "rmsprop":
            rmsprop = optax.rmsprop(
                schedule,
                decay=rho,
                eps=epsilon or 0.002,
                momentum=config.momentum,
                eps_in_sqrt=True,
                initial_scale=1.0,
            )
            return optax.chain(decay, rmsprop)
        case "rmsprop-torch":
            return optax.chain(
                decay,
                optax.scale_by_rms(rho, epsilon or 0.0316, eps_in_sqrt=False),
                optax.trace(config.momentum),
                optax.scale_by_learning_rate(schedule),
            )


class _Scale(NamedTuple):
    """Factor of the learning rate of the parameters whose name matches.

    Attributes:
      pattern: of the whole name, such as stage1_block1/expand/conv/kernel.
      factor: of the rate.
      steps: steps for which it holds; None is for ever.
    """

    pattern: re.Pattern[str]
    factor: float
    steps: int | None


def scale_rates(texts: Sequence[str], steps_per_epoch: int) -> optax.GradientTransformation:
    """Multiply the updates of parameters by factors: the last transformation of an optimizer.

    Args:
      texts: PATTERN=FACTOR or PATTERN=FACTOR@EPOCHS; the first one that matches holds.
      steps_per_epoch: length of an epoch.

    Raises:
      InputError: a text that cannot be read, or at the start a pattern that matches no parameter.
    """
    scales = [_read_scale(text, steps_per_epoch) for text in texts]

    def init(params: PyTree) -> optax.ScaleByScheduleState:
        names = list(named_leaves(params))
        for scale, text in zip(scales, texts, strict=True):
            if not any(scale.pattern.fullmatch(name) for name in names):
                tops = ", ".join(dict.fromkeys(name.partition("/")[0] for name in names))
                raise InputError(
                    f"--lr-scale {text} matches no trained parameter; their names begin with {tops}"
                )
        return optax.ScaleByScheduleState(jnp.zeros((), jnp.int32))

    def update(updates: PyTree, state: Any, params: PyTree = None) -> tuple[PyTree, Any]:
        del params
        factors = [_factor(scales, name, state.count) for name in named_leaves(updates)]
        leaves, structure = jax.tree.flatten(updates)
        scaled = [
            leaf if factor is None else leaf * factor
            for leaf, factor in zip(leaves, factors, strict=True)
        ]
        return jax.tree.unflatten(structure, scaled), optax.ScaleByScheduleState(state.count + 1)

    return optax.GradientTransformation(init, update)


def _factor(scales: Sequence[_Scale], name: str, count: jax.Array) -> Any:
    for scale in scales:
        if scale.pattern.fullmatch(name):
            if scale.steps is None:
                return scale.factor
            return jnp.where(count < scale.steps, scale.factor, 1.0)
    return None


def _read_scale(text: str, steps_per_epoch: int) -> _Scale:
    pattern, _, factor = text.rpartition("=")
    factor, at, epochs = factor.partition("@")
    try:
        steps = round(float(epochs) * steps_per_epoch) if at else None
        scale = _Scale(re.compile(pattern), float(factor), steps)
        if pattern and scale.factor >= 0 and (steps is None or steps >= 0):
            return scale
    except (ValueError, re.error):
        pass
    raise InputError(
        f"--lr-scale is {text!r}; accepted: PATTERN=FACTOR or PATTERN=FACTOR@EPOCHS, such as "
        "'stage[1-3].*=0.1'"
    )


def _kernels(params: Any) -> Any:
    """Select the leaves that decay: kernels have several axes, scales and biases one."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
