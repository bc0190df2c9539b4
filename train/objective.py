"""The objective of a run, from its settings."""

from convert.published.loading import Weights
from flaxmobile.layers import Network
from flaxmobile.preprocessing import Preprocessing
from flaxmobile.registry import as_dtype, get_spec
from train.config import Config
from train.data import Dataset
from train.data.balance import balanced_weights
from train.losses import Loss, Teacher
from train.mixing import Mixing
from train.optimizers import make_optimizer, make_schedule
from train.parallel import Parallel
from train.step import Objective


def make_objective(
    config: Config,
    dataset: Dataset,
    model: Network,
    preprocessing: Preprocessing,
    parallel: Parallel,
    teacher: Weights | None,
    steps_per_epoch: int,
    total_steps: int,
) -> Objective:
    """Say what the training step minimizes, and how.

    Args:
      config: settings.
      dataset: the data.
      model: the network.
      preprocessing: of its images.
      parallel: gives the axis of the devices.
      teacher: weights of a network to learn from, if any.
      steps_per_epoch, total_steps: length of the run.
    """
    schedule = make_schedule(config, steps_per_epoch, total_steps)
    weights = None
    if config.class_weights == "balanced":
        weights = balanced_weights(dataset.train.labels(), len(dataset.class_names))
    return Objective(
        model=model.clone(
            axis_name=parallel.axis_name,
            frozen_norm=config.freeze_backbone,
            remat=config.remat,
        ),
        preprocessing=preprocessing,
        optimizer=make_optimizer(config, schedule, steps_per_epoch),
        schedule=schedule,
        trained=get_spec(config.model).network.heads if config.freeze_backbone else None,
        loss=Loss(
            "bce" if config.multi_label else config.loss,
            config.label_smoothing,
            weights,
            config.multi_label,
        ),
        ema_decay=config.ema_decay,
        norm_warmup=config.norm_warmup,
        mixing=Mixing(config.mixup, config.cutmix),
        accumulate=config.accumulate,
        teacher=_teacher(config, teacher) if teacher else None,
        skip_nonfinite=config.skip_nonfinite > 0,
    )


def _teacher(config: Config, weights: Weights) -> Teacher:
    model = weights.model.clone(dtype=as_dtype(config.dtype))
    preprocessing = weights.metadata.preprocessing
    return Teacher(model, preprocessing, config.distill_temperature, config.distill_weight)
