"""Setup of a run from its settings, checked before anything is written."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convert.published.loading import Weights, open_any_weights
from flaxmobile.errors import InputError
from flaxmobile.layers import Network
from flaxmobile.preprocessing import Preprocessing
from flaxmobile.registry import create_model, get_spec
from flaxmobile.trees import Tree
from flaxmobile.variables import replace_heads
from flaxmobile.weights import Metadata
from train.config import Config, load_record
from train.data import Dataset, open_dataset
from train.data.augmentation import make_augmentation
from train.data.workers import default_workers
from train.objective import make_objective
from train.parallel import Parallel, make_parallel
from train.recipes import get_recipe, recipe_for
from train.step import Objective, TrainState, create_state

_TRAINING_OPTIONS = ("dropout_rate", "norm_momentum")
"""Options that are settings of training, and may differ from those of the weights given."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A run before its first step.

    Attributes:
      config: its settings, with the width and the image size that were chosen for it.
      dataset: the data.
      weights: the weights to start from or to evaluate, if any.
      options: options of `create_model`.
      metadata: metadata of its weights directories.
      parallel: devices and steps compiled for them.
      objective: the network, its loss and its optimizer.
      steps_per_epoch, total_steps: its length.
      workers: processes that load images.
      teacher: variables of the network to learn from, if any.
    """

    config: Config
    dataset: Dataset
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
        size = self.config.train_size or self.preprocessing.side
        return dataclasses.replace(self.preprocessing, image_size=size, resize_size=None)

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
    dataset = open_dataset(config.dataset, config.data_dir, config.select(config.seed))
    dataset = dataclasses.replace(dataset, notes=(*dataset.notes, *_warnings(config, dataset)))
    record = load_record(Path(config.output)) if config.resume and config.output else None
    if record and "preprocessing" not in record:
        record = None  # of version 0.1
    # A run that is continued has weights of its own, and those that it began with may be gone.
    weights = None if record else _open_weights(config)
    if "alpha" not in config.network_options:
        origin = weights.model if weights else get_spec(config.model).network
        config = dataclasses.replace(config, alpha=getattr(origin, "alpha", None))
    options: Tree = {
        **(weights.options if weights else record["model_options"] if record else {}),
        **config.network_options,
        "num_classes": len(dataset.class_names),
        "dtype": config.dtype,
    }
    model = create_model(config.model, **options)
    if weights:
        _check_fits(weights, config, model)
    if record:
        preprocessing = Preprocessing.from_json(record["preprocessing"])
    else:
        preprocessing = _preprocessing(config, dataset, weights, model.min_image_size)
    config = dataclasses.replace(config, image_size=preprocessing.side)
    augment = make_augmentation(config, dataset, preprocessing)
    dataset = dataclasses.replace(dataset, augment=augment)
    steps_per_epoch = max(1, len(dataset.train) // config.batch_size)
    total_steps = config.steps or config.epochs * steps_per_epoch
    workers = dataset.workers if config.workers is None else config.workers
    teacher = _open_teacher(config, dataset)
    return Run(
        config=config,
        dataset=dataset,
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
            config, dataset, model, preprocessing, parallel, teacher, steps_per_epoch, total_steps
        ),
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        workers=default_workers() if workers is None else workers,
        teacher=_on_host(teacher.load()[1]) if teacher else None,
    )


def _warnings(config: Config, dataset: Dataset) -> Iterator[str]:
    """Say what of the data is unusual, and what a recipe became."""
    batch = get_recipe(config.recipe)["batch_size"] if config.recipe else config.batch_size
    if batch != config.batch_size and config.recipe != recipe_for(config.dataset):
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


def _open_teacher(config: Config, dataset: Dataset) -> Weights | None:
    if config.distill_from is None or config.eval_only:
        return None
    teacher = open_any_weights(config.distill_from)
    if not _same_classes(teacher, dataset):
        raise InputError(
            f"--distill-from {config.distill_from} has {teacher.model.num_classes} classes, not "
            f"the {len(dataset.class_names)} of {config.dataset}: fine-tune it on them first"
        )
    return teacher


def initial_state(run: Run) -> TrainState:
    """Begin with fresh variables, or with the weights to start from.

    Weights of other classes get a fresh classifier.

    Raises:
      InputError: the weights are damaged.
    """
    model = run.objective.model.clone(axis_name=None)
    size = run.preprocessing.side
    key = jax.random.key(run.config.seed)
    # Compiled, so that XLA drops the forward pass, which the parameters do not depend on.
    fresh = jax.jit(lambda key: model.init(key, jnp.zeros((1, size, size, 3))))(key)
    variables = _on_host(fresh)
    if weights := run.weights or _open_weights(run.config):
        trained = _on_host(weights.load()[1])
        same = _same_classes(weights, run.dataset)
        variables = trained if same else replace_heads(model, trained, variables)
    return create_state(run.objective, variables)


def _on_host(variables: Any) -> dict[str, Any]:
    return jax.tree.map(np.asarray, dict(variables))


def _same_classes(weights: Weights, dataset: Dataset) -> bool:
    """Tell whether a classifier fits: as many classes, and no other names."""
    same_number = weights.model.num_classes == len(dataset.class_names)
    return same_number and weights.metadata.class_names in (None, dataset.class_names)


def _open_weights(config: Config) -> Weights | None:
    """Open the weights to start from or to evaluate."""
    if not config.weights:
        return None
    weights = open_any_weights(config.weights)
    if weights.model_name != config.model:
        raise InputError(
            f"{weights.path} holds {weights.model_name}, not {config.model}; take --model "
            f"{weights.model_name}, or other weights"
        )
    if weights.model.folded and not config.eval_only:
        raise InputError(f"{weights.path} has folded normalization and cannot be trained")
    return weights


def _check_fits(weights: Weights, config: Config, model: Network) -> None:
    """Refuse weights of another variant, or in evaluation those of other classes."""
    for option in config.network_options:
        wanted, found = getattr(model, option), getattr(weights.model, option)
        if wanted != found and option not in _TRAINING_OPTIONS:
            raise InputError(
                f"{weights.path} holds {config.model} with {option} {found}, not {wanted}; leave "
                "it out, or take other weights"
            )
    if config.eval_only and weights.model.num_classes != model.num_classes:
        raise InputError(
            f"{weights.path} has {weights.model.num_classes} classes, {config.dataset} has "
            f"{model.num_classes}"
        )


def _preprocessing(
    config: Config, dataset: Dataset, weights: Weights | None, least: int
) -> Preprocessing:
    """Take size and crop from the data set, and the other numbers from the weights.

    A size that the user does not set is raised to the network's minimum.
    """
    base = dataset.preset or Preprocessing(get_spec(config.model).image_size)
    if weights:
        base = weights.metadata.preprocessing
    sizes = dataset.preset or base
    size = config.image_size or max(least, sizes.side)
    resize = sizes.resize_size and math.ceil(size * sizes.resize_size / sizes.side)
    if config.resize_size is not None:
        resize = config.resize_size
        if resize < size:
            raise InputError(f"--resize-size is {resize}; accepted: {size} (the image's) and more")
    return dataclasses.replace(base, image_size=size, resize_size=resize)
