"""Setup of a run from its settings, checked before anything is written."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from convert.published.loading import Weights
from flaxmobile.errors import InputError
from flaxmobile.folding import fold_batch_norm
from flaxmobile.preprocessing import Preprocessing
from flaxmobile.registry import get_spec
from flaxmobile.tasks import build
from flaxmobile.trees import Tree
from flaxmobile.variables import init, replace_heads, transfer_backbone
from flaxmobile.weights import Metadata
from train.config import Config
from train.data import Dataset
from train.data.examples import TrainReader
from train.data.workers import default_workers
from train.flags import load_record
from train.objective import make_objective
from train.parallel import Parallel, make_parallel
from train.recipes import get_recipe, recipe_for
from train.start import (
    backbone_of,
    check_fits,
    open_start,
    open_teacher,
    options_of_start,
    same_classes,
)
from train.step import Objective, TrainState, create_state
from train.task_settings import TaskName
from train.tasks.classify import Classify
from train.tasks.detect import Detect
from train.tasks.segment import Segment
from train.tasks.task import Task

TASKS: dict[TaskName, Task] = {"classify": Classify(), "segment": Segment(), "detect": Detect()}


@dataclasses.dataclass(frozen=True)
class Run:
    """A run before its first step.

    Attributes:
      config: its settings, with the width and the image size that were chosen for it.
      task: what the network is for.
      dataset: the data.
      train_reader: reads its training images.
      weights: the weights to start from or to evaluate, if any.
      options: options of `flaxmobile.tasks.build`.
      metadata: metadata of its weights directories.
      parallel: devices and steps compiled for them.
      objective: the network, its loss and its optimizer.
      steps_per_epoch, total_steps: its length.
      workers: processes that load images.
      teacher: variables of the network to learn from, if any.
    """

    config: Config
    task: Task
    dataset: Dataset
    train_reader: TrainReader
    weights: Weights | None
    options: Tree
    metadata: Metadata
    parallel: Parallel
    objective: Objective
    steps_per_epoch: int
    total_steps: int
    workers: int
    teacher: Tree | None = None

    @property
    def preprocessing(self) -> Preprocessing:
        """Preprocessing of its images."""
        return self.metadata.preprocessing

    @property
    def train_preprocessing(self) -> Preprocessing:
        """Preprocessing of its training images, which may have another size."""
        return _train_preprocessing(self.config, self.preprocessing)

    def epoch(self, step: int) -> int:
        """Return the epoch of a step; both are counted from 1."""
        return (step - 1) // self.steps_per_epoch + 1

    def ends_epoch(self, step: int) -> bool:
        """Tell whether the network is validated after this step."""
        return step > 0 and (step % self.steps_per_epoch == 0 or step == self.total_steps)


def prepare(config: Config, devices: Sequence[jax.Device] | None = None) -> Run:
    """Open the data and the weights and build the network.

    Args:
      config: settings.
      devices: devices to train on; by default all.

    Raises:
      InputError: settings, data, devices or weights that do not fit together.
    """
    parallel = make_parallel(config.parallel, config.batch_size, devices)
    _check_batch(config, parallel)
    task = TASKS[config.task]
    dataset = task.open_dataset(config)
    dataset = dataclasses.replace(dataset, notes=(*dataset.notes, *_warnings(config, dataset)))
    record = load_record(Path(config.output)) if config.resume and config.output else None
    if record and "preprocessing" not in record:
        record = None  # of version 0.1
    # A run that is continued has weights of its own, and those that it began with may be gone.
    weights = None if record else open_start(config)
    if "alpha" not in config.network_options:
        origin = backbone_of(weights.model) if weights else get_spec(config.model).network
        config = dataclasses.replace(config, alpha=getattr(origin, "alpha", None))
    options: Tree = {
        **(record["model_options"] if record else options_of_start(weights, config)),
        **config.network_options,
        "num_classes": len(dataset.class_names),
        "dtype": config.dtype,
    }
    model = build(config.network, **options)
    if weights:
        check_fits(weights, config, model)
    if record:
        preprocessing = Preprocessing.from_json(record["preprocessing"])
    else:
        preprocessing = _preprocessing(config, dataset, weights, model.min_image_size)
        preprocessing = preprocessing.for_channels(model.in_channels)
    config = dataclasses.replace(config, image_size=preprocessing.side)
    steps_per_epoch = max(1, len(dataset.train) // config.batch_size)
    total_steps = config.steps or config.epochs * steps_per_epoch
    workers = dataset.workers if config.workers is None else config.workers
    teacher = open_teacher(config, dataset)
    return Run(
        config=config,
        task=task,
        dataset=dataset,
        train_reader=task.train_reader(
            config, dataset, _train_preprocessing(config, preprocessing)
        ),
        weights=weights,
        options=options,
        metadata=Metadata(
            preprocessing,
            dataset.class_names,
            {"origin": "python -m train"},
            "sigmoid" if dataset.multi_label else None,
        ),
        parallel=parallel,
        objective=make_objective(
            config,
            task.criterion(config, dataset, model, preprocessing),
            model,
            preprocessing,
            parallel,
            teacher,
            steps_per_epoch,
            total_steps,
        ),
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        workers=default_workers() if workers is None else workers,
        teacher=_on_host(teacher.load()[1]) if teacher else None,
    )


def _warnings(config: Config, dataset: Dataset) -> Iterator[str]:
    """Say what of the data is unusual, and what a recipe became."""
    batch = get_recipe(config.recipe)["batch_size"] if config.recipe else config.batch_size
    if batch != config.batch_size and config.recipe != recipe_for(config.dataset, config.task):
        yield (
            f"recipe {config.recipe} is for batches of {batch}, not {config.batch_size}: its "
            f"learning rate becomes {config.learning_rate:g}"
        )
    if len(dataset.class_names) == 1:
        yield f"one class, {dataset.class_names[0]!r}: there is nothing to tell apart"
    if (count := len(dataset.train)) < config.batch_size:
        yield (
            f"a batch of {config.batch_size} is larger than the {count} training images: it holds "
            "some of them more than once, and each step counts as an epoch (--batch-size)"
        )


def _check_batch(config: Config, parallel: Parallel) -> None:
    """Refuse a batch whose share on each device cannot be split into parts or pairs."""
    share = config.batch_size // parallel.count
    if share % config.accumulate:
        raise InputError(
            f"--batch-size {config.batch_size} on {parallel.count} devices cannot be split into "
            f"--accumulate {config.accumulate} parts; take a multiple of "
            f"{parallel.count * config.accumulate}"
        )
    if (config.mixup or config.cutmix) and share % 2:
        raise InputError(
            f"--mixup and --cutmix mix pairs of images: take a --batch-size that "
            f"{2 * parallel.count} divides, not {config.batch_size}"
        )


def initial_state(run: Run) -> TrainState:
    """Begin with fresh variables, or with the weights to start from.

    Weights of other classes get a fresh classifier, those of a classifier a fresh head.

    Raises:
      InputError: the weights are damaged.
    """
    model = run.objective.model.clone(axis_name=None)
    variables = _on_host(init(model, jax.random.key(run.config.seed), run.preprocessing.side))
    if weights := run.weights or open_start(run.config):
        trained = _on_host(weights.load()[1])
        if run.config.quantize:
            # With fresh ranges, which the first steps forget.
            folded = weights.model.folded
            params = trained if folded else fold_batch_norm(weights.model, trained)[1]
            trained = {**variables, "params": params["params"]}
        if weights.model_name != run.config.network:
            variables = transfer_backbone(model, trained, variables)
        elif same_classes(weights, run.dataset):
            variables = trained
        else:
            variables = replace_heads(model, trained, variables)
    return create_state(run.objective, variables)


def _on_host(variables: Any) -> dict[str, Any]:
    return jax.tree.map(np.asarray, dict(variables))


def _train_preprocessing(config: Config, preprocessing: Preprocessing) -> Preprocessing:
    size = config.train_size or preprocessing.side
    return dataclasses.replace(preprocessing, image_size=size)


def _preprocessing(
    config: Config, dataset: Dataset, weights: Weights | None, least: int
) -> Preprocessing:
    """Take size and crop from the data set, and the other numbers from the weights.

    With --quantize the weights keep the image size of their training. A size that the user does not
    set is raised to the network's minimum.
    """
    base = dataset.preset or Preprocessing(get_spec(config.model).image_size)
    if weights:
        base = weights.metadata.preprocessing
    sizes = base if config.quantize else dataset.preset or base
    size = config.image_size or max(least, sizes.side)
    resize = sizes.with_side(size).resize_size
    if config.resize_size is not None:
        resize = config.resize_size
        if resize < size:
            raise InputError(f"--resize-size is {resize}; accepted: {size} (the image's) and more")
    return dataclasses.replace(base, image_size=size, resize_size=resize)
