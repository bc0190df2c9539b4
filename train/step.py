"""One step of training and of evaluation, as pure functions of arrays."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from flaxmobile.layers import AUX_LOGITS, Network
from flaxmobile.preprocessing import Preprocessing
from flaxmobile.trees import Tree
from flaxmobile.variables import abstract_variables

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
      label_smoothing: share of each label that is spread over all classes.
      ema_decay: decay of the moving average; 0 is off.
      norm_warmup: average the running statistics of normalization over fewer steps at first.
    """

    model: Network
    preprocessing: Preprocessing
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule
    trained: tuple[str, ...] | None = None
    label_smoothing: float = 0.0
    ema_decay: float = 0.0
    norm_warmup: bool = True


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
    objective: Objective, state: TrainState, images: Array, labels: Array, key: Array
) -> tuple[TrainState, Metrics]:
    """Take one step.

    Args:
      objective: what to minimize.
      state: before the step.
      images: uint8 [n, h, w, 3].
      labels: int32 [n].
      key: the run's random key; the step's number is folded in.

    Returns:
      The state after the step, and the loss, accuracy and top5 (where there are more than 5
      classes) of this batch before it, with the learning rate. Global over all devices.
    """
    trained, frozen = _split(objective, state.params)
    # Without momentum the network's new statistics are those of the batch alone.
    model = objective.model.clone(norm_momentum=0.0)

    def loss_of(trained: Tree) -> tuple[Array, tuple[Tree, Array]]:
        logits, updates = model.apply(
            {"params": {**trained, **frozen}, "batch_stats": state.batch_stats},
            objective.preprocessing.normalize(images),
            train=True,
            mutable=["batch_stats", AUX_LOGITS],
            rngs={"dropout": jax.random.fold_in(key, state.step)},
        )
        targets = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
        targets = optax.smooth_labels(targets, objective.label_smoothing)
        loss = optax.softmax_cross_entropy(logits, targets).mean()
        for auxiliary in jax.tree.leaves(updates.get(AUX_LOGITS)):
            share = optax.softmax_cross_entropy(auxiliary, targets).mean()
            loss += model.aux_weight * share
        return loss, (updates.get("batch_stats", {}), logits)

    (loss, (statistics, logits)), gradients = jax.value_and_grad(loss_of, has_aux=True)(trained)
    metrics = {"loss": loss, **_hits(logits, labels, jnp.full(labels.shape, 1 / labels.size))}
    if axis := model.axis_name:
        gradients, metrics, statistics = lax.pmean((gradients, metrics, statistics), axis)
    batch_stats = _average(objective, state, statistics)
    updates, opt_state = objective.optimizer.update(gradients, state.opt_state, trained)
    params = {**optax.apply_updates(trained, updates), **frozen}
    metrics["learning_rate"] = jnp.asarray(objective.schedule(state.step), jnp.float32)
    ema = state.ema
    if ema is not None:
        new = {"params": params, "batch_stats": batch_stats}
        ema = optax.incremental_update(new, ema, 1 - _warm_up(objective.ema_decay, state.step))
    return TrainState(state.step + 1, params, batch_stats, opt_state, ema), metrics


def eval_step(
    objective: Objective, variables: Tree, images: Array, labels: Array, weights: Array
) -> Metrics:
    """Sum loss and hits over a batch; images of weight 0 do not count.

    Returns:
      Sums over images of all devices: loss, accuracy, top5 (where there are more than 5 classes),
      and their number as "images".
    """
    inputs = objective.preprocessing.normalize(images)
    logits = objective.model.apply(variables, inputs, train=False)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    sums = {
        "loss": jnp.sum(losses * weights),
        **_hits(logits, labels, weights),
        "images": weights.sum(),
    }
    axis = objective.model.axis_name
    return lax.psum(sums, axis) if axis else sums


def _split(objective: Objective, params: Tree) -> tuple[Tree, Tree]:
    """Split the parameters into trained and frozen ones; the frozen ones stay equal to the bit."""
    names = set(params) if objective.trained is None else set(objective.trained)
    trained = {name: group for name, group in params.items() if name in names}
    return trained, {name: group for name, group in params.items() if name not in names}


def _hits(logits: Array, labels: Array, weights: Array) -> Metrics:
    """Sum the weights of images whose label has the highest logit, or one of the 5 highest.

    The rank of a label is the number of other classes that are not below it. Ties and NaN count
    against it, so constant logits score nothing.
    """
    own = jnp.take_along_axis(logits, labels[:, None], axis=1)
    rank = jnp.sum(~(logits < own), axis=1) - 1
    counts = {"accuracy": jnp.sum((rank < 1) * weights)}
    if logits.shape[1] > 5:
        counts["top5"] = jnp.sum((rank < 5) * weights)
    return counts


def _average(objective: Objective, state: TrainState, statistics: Tree) -> Tree:
    """Move the running statistics towards those of the batch."""
    momentum: float | Array = objective.model.norm_momentum
    if objective.norm_warmup:
        momentum = _warm_up(momentum, state.step)
    # In this form the statistics of a frozen backbone stay as they are to the bit.
    return jax.tree.map(
        lambda old, new: old + (1 - momentum) * (new - old), state.batch_stats, statistics
    )


def _warm_up(decay: float, step: Array) -> Array:
    """Average over fewer steps at first (TensorFlow's `num_updates`), to forget the start."""
    return jnp.minimum(decay, (1 + step) / (10 + step))
