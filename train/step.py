"""One step of training and of evaluation, as pure functions of arrays."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from flaxmobile.layers import AUX_LOGITS, Model
from flaxmobile.preprocessing import Preprocessing
from flaxmobile.trees import Tree
from flaxmobile.variables import abstract_variables
from train.losses import Criterion, Loss, Teacher
from train.mixing import Mixing

Metrics = dict[str, Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Everything that a step changes.

    Attributes:
      step: number of steps taken, int32.
      params: all parameters of the network.
      batch_stats: its running statistics.
      opt_state: state of the optimizer, for the trained parameters.
      ema: moving average of {"params", "batch_stats"}; None if it is off.
    """

    step: Array
    params: Tree
    batch_stats: Tree
    opt_state: optax.OptState
    ema: Tree | None = None

    @property
    def variables(self) -> Tree:
        """Variables to evaluate and to save: the moving average if there is one."""
        return self.ema or {"params": self.params, "batch_stats": self.batch_stats}


@dataclasses.dataclass(frozen=True)
class Objective:
    """Loss, optimizer and network of a run.

    Attributes:
      model: the network; its axis_name is the pmap axis, None under jit.
      preprocessing: normalizes the images.
      optimizer: updates the trained parameters.
      schedule: the learning rate by step, to report it.
      trained: names of the top-level parameter groups to train; None trains all.
      loss: distance of the network's outputs from the labels.
      ema_decay: decay of the moving average; 0 is off.
      norm_warmup: average the running statistics of normalization over fewer steps at first.
      mixing: mixup and cutmix.
      accumulate: number of micro-batches of a step, whose gradients are accumulated. Batch
        normalization takes the statistics of each; the running ones take their average.
      teacher: a trained network to learn from.
      skip_nonfinite: leave the state as it is where the loss or a gradient is not finite.
    """

    model: Model
    preprocessing: Preprocessing
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule
    trained: tuple[str, ...] | None = None
    loss: Criterion = dataclasses.field(default_factory=Loss)
    ema_decay: float = 0.0
    norm_warmup: bool = True
    mixing: Mixing = dataclasses.field(default_factory=Mixing)
    accumulate: int = 1
    teacher: Teacher | None = None
    skip_nonfinite: bool = False


def create_state(objective: Objective, variables: Tree) -> TrainState:
    """Make the state before the first step.

    Args:
      objective: gives the optimizer.
      variables: {"params": …, "batch_stats": …} to start from.
    """
    trained, _ = _split(objective, variables["params"])
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables.get("batch_stats", {}),
        opt_state=objective.optimizer.init(trained),
        # A copy: the step donates its state, and a buffer can be donated once.
        ema=jax.tree.map(jnp.copy, dict(variables)) if objective.ema_decay else None,
    )


def abstract_state(objective: Objective) -> TrainState:
    """Return the shapes of a state, without computing one."""
    variables = abstract_variables(objective.model.clone(axis_name=None))
    return jax.eval_shape(partial(create_state, objective), variables)


def train_step(
    objective: Objective,
    state: TrainState,
    images: Array,
    labels: Any,
    key: Array,
    teacher: Tree | None = None,
) -> tuple[TrainState, Metrics]:
    """Take one step.

    Args:
      objective: what to minimize.
      state: before the step.
      images: uint8 [n, h, w, 3].
      labels: [n, …] as the loss takes them.
      key: the run's random key; the step's number is folded in.
      teacher: variables of the objective's teacher.

    Returns:
      The new state; and metrics averaged over all devices: the loss and what `Criterion.measure`
      gives, both with the parameters before the update, and the learning rate. Of mixed images the
      label with the larger share counts.
    """
    key = jax.random.fold_in(key, state.step)
    dtype = jnp.promote_types(objective.model.dtype, jnp.float32)
    targets = objective.loss.targets(labels, objective.model.num_classes, dtype)
    pixels, targets = objective.mixing(jax.random.fold_in(key, 1), images, targets)
    trained, frozen = _split(objective, state.params)

    def differentiate(batch: tuple[Array, Any], key: Array) -> tuple[Metrics, Tree, Tree]:
        loss_of = partial(_loss, objective, state, frozen, teacher, *batch, key)
        (loss, (measured, statistics)), gradients = jax.value_and_grad(loss_of, has_aux=True)(
            trained
        )
        return {"loss": loss, **measured}, statistics, gradients

    metrics, statistics, gradients = _accumulate(
        differentiate, objective.accumulate, (pixels, targets), key
    )
    if axis := objective.model.axis_name:
        gradients, metrics, statistics = lax.pmean((gradients, metrics, statistics), axis)
    updates, opt_state = objective.optimizer.update(gradients, state.opt_state, trained)
    params = {**optax.apply_updates(trained, updates), **frozen}
    batch_stats = _average(objective, state, statistics)
    ema = state.ema
    if ema is not None:
        new = {"params": params, "batch_stats": batch_stats}
        ema = optax.incremental_update(new, ema, 1 - _warm_up(objective.ema_decay, state.step))
    after = TrainState(state.step + 1, params, batch_stats, opt_state, ema)
    if objective.skip_nonfinite:
        checks = jax.tree.map(lambda leaf: jnp.isfinite(leaf).all(), (metrics["loss"], gradients))
        finite = jnp.stack(jax.tree.leaves(checks)).all()
        kept = dataclasses.replace(state, step=after.step)
        after = jax.tree.map(partial(jnp.where, finite), after, kept)
        metrics["skipped"] = 1 - finite.astype(dtype)
    metrics["learning_rate"] = jnp.asarray(objective.schedule(state.step), jnp.float32)
    return after, metrics


def eval_step(objective: Objective, variables: Tree, images: Array, labels: Any) -> Metrics:
    """Compute metrics and predictions of each image (`Criterion.judge`), [n, …] by name."""
    inputs = objective.preprocessing.normalize(images)
    outputs = objective.model.apply(variables, inputs, train=False)
    return objective.loss.judge(outputs, labels)


def _loss(
    objective: Objective,
    state: TrainState,
    frozen: Tree,
    teacher: Tree | None,
    pixels: Array,
    targets: Any,
    key: Array,
    trained: Tree,
) -> tuple[Array, tuple[Metrics, Tree]]:
    """Return the loss of a batch, what is measured, and the statistics of its normalizations."""
    model = objective.model
    if objective.norm_warmup:
        model = model.without_momentum()
    outputs, updates = model.apply(
        {"params": {**trained, **frozen}, "batch_stats": state.batch_stats},
        objective.preprocessing.normalize(pixels),
        train=True,
        mutable=["batch_stats", AUX_LOGITS],
        rngs={"dropout": key},
    )
    loss = objective.loss(outputs, targets)
    if objective.teacher:
        loss = objective.teacher.blend(loss, outputs, objective.teacher.logits(teacher, pixels))
    for auxiliary in jax.tree.leaves(updates.get(AUX_LOGITS)):
        loss += objective.model.aux_weight * objective.loss(auxiliary, targets)
    measured = objective.loss.measure(outputs, targets)
    return loss, (measured, updates.get("batch_stats", {}))


def _accumulate(function: Any, parts: int, batch: Any, key: Array) -> Any:
    """Average the results of a function over the parts of a batch, one after another."""
    if parts == 1:
        return function(batch, key)
    # Image i goes to part i % parts, so that each part is spread over all devices.
    split = jax.tree.map(
        lambda leaf: leaf.reshape(-1, parts, *leaf.shape[1:]).swapaxes(0, 1), batch
    )
    keys = jax.random.split(key, parts)
    first = jax.tree.map(lambda leaf: leaf[0], split)
    zeros = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(function, first, key)
    )

    def add(total: Any, part: tuple[Any, Array]) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, function(*part)), None

    total, _ = lax.scan(add, zeros, (split, keys))
    return jax.tree.map(lambda leaf: leaf / parts, total)


def _split(objective: Objective, params: Tree) -> tuple[Tree, Tree]:
    """Split the parameters into trained and frozen ones; the frozen ones stay equal to the bit."""
    names = set(params) if objective.trained is None else set(objective.trained)
    trained = {name: group for name, group in params.items() if name in names}
    return trained, {name: group for name, group in params.items() if name not in names}


def _average(objective: Objective, state: TrainState, statistics: Tree) -> Tree:
    """Move the running statistics towards those of the batch, unless the network has done it."""
    if not objective.norm_warmup:
        return statistics
    momenta = {group: objective.model.momentum_of(group) for group in statistics}
    decays = {momentum: _warm_up(momentum, state.step) for momentum in momenta.values()}

    def average(decay: Array, old: Array, new: Array) -> Array:
        # In this form the statistics of a frozen backbone stay as they are to the bit.
        return old + (1 - decay) * (new - old)

    return {
        group: jax.tree.map(partial(average, decays[momenta[group]]), state.batch_stats[group], new)
        for group, new in statistics.items()
    }


def _warm_up(decay: float, step: Array) -> Array:
    """Average over fewer steps at first (TensorFlow's `num_updates`), to forget the start."""
    return jnp.minimum(decay, (1 + step) / (10 + step))
