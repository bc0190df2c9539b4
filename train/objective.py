"""The objective of a run, from its settings."""

from convert.published.loading import Weights
from flaxmobile.layers import HeadedNetwork, Model
from flaxmobile.preprocessing import Preprocessing
from flaxmobile.registry import as_dtype
from flaxmobile.variables import abstract_variables
from train.config import Config
from train.losses import Criterion, Teacher
from train.mixing import Mixing
from train.optimizers import make_optimizer, make_schedule
from train.parallel import Parallel
from train.step import Objective


def make_objective(
    config: Config,
    loss: Criterion,
    model: Model,
    preprocessing: Preprocessing,
    parallel: Parallel,
    teacher: Weights | None,
    steps_per_epoch: int,
    total_steps: int,
) -> Objective:
    """Say what the training step minimizes, and how.

    Args:
      config: settings.
      loss: of the task.
      model: the network.
      preprocessing: of its images.
      parallel: gives the axis of the devices.
      teacher: weights of a network to learn from, if any.
      steps_per_epoch, total_steps: length of the run.
    """
    schedule = make_schedule(config, steps_per_epoch, total_steps)
    return Objective(
        model=model.clone(
            axis_name=parallel.axis_name,
            frozen_norm=config.freeze_backbone,
            remat=config.remat,
        ),
        preprocessing=preprocessing,
        optimizer=make_optimizer(config, schedule, steps_per_epoch),
        schedule=schedule,
        trained=_groups_of_head(model) if config.freeze_backbone else None,
        loss=loss,
        ema_decay=config.ema_decay,
        norm_warmup=config.norm_warmup,
        mixing=Mixing(config.mixup, config.cutmix),
        accumulate=config.accumulate,
        teacher=_teacher(config, teacher) if teacher else None,
        skip_nonfinite=config.skip_nonfinite > 0,
    )


def _groups_of_head(model: Model) -> tuple[str, ...]:
    """Name the groups of parameters that are not the backbone's."""
    if isinstance(model, HeadedNetwork):
        return tuple(name for name in abstract_variables(model)["params"] if name != "backbone")
    return model.heads


def _teacher(config: Config, weights: Weights) -> Teacher:
    model = weights.model.clone(dtype=as_dtype(config.dtype))
    preprocessing = weights.metadata.preprocessing
    return Teacher(model, preprocessing, config.distill_temperature, config.distill_weight)
