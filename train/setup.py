"""From settings to everything that a run needs, checked before anything is written."""

import dataclasses
import datetime
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flaxmobile.errors import InputError
from flaxmobile.preprocessing import Preprocessing
from flaxmobile.registry import create_model, get_spec
from flaxmobile.variables import abstract_variables
from flaxmobile.weights import Metadata, load_metadata, load_options, load_weights
from train.config import Config
from train.data import Dataset, open_dataset
from train.data.workers import default_workers
from train.optimizers import make_optimizer, make_schedule
from train.parallel import Parallel, make_parallel
from train.step import Objective, TrainState, create_state

Options = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Run:
    """A run before its first step.

    Attributes:
      config: its settings.
      dataset: what it learns from.
      options: what builds the network, with its name in the settings.
      metadata: what its weights directories will say.
      parallel: how steps are spread over devices.
      objective: what is minimized.
      steps_per_epoch, total_steps: its length.
      workers: processes that load images.
    """

    config: Config
    dataset: Dataset
    options: Options
    metadata: Metadata
    parallel: Parallel
    objective: Objective
    steps_per_epoch: int
    total_steps: int
    workers: int

    @property
    def preprocessing(self) -> Preprocessing:
        """How images are prepared."""
        return self.metadata.preprocessing


def prepare(config: Config, devices: Sequence[jax.Device] | None = None) -> Run:
    """Open the data and build the network, for the given devices or all that are here.

    Raises:
      InputError: settings, data, devices or weights that do not fit together.
    """
    parallel = make_parallel(config.parallel, config.batch_size, devices)
    dataset = open_dataset(config.dataset, config.data_dir)
    options: Options = {
        **(_inherited_options(config, len(dataset.class_names)) if config.weights else {}),
        **config.network_options,
        "num_classes": len(dataset.class_names),
        "dtype": config.dtype,
    }
    model = create_model(config.model, **options)
    if hasattr(model, "alpha"):
        options["alpha"] = model.alpha
    preprocessing = _preprocessing(config, dataset, model.min_image_size)
    steps_per_epoch = max(1, len(dataset.train) // config.batch_size)
    total_steps = config.steps or config.epochs * steps_per_epoch
    schedule = make_schedule(config, steps_per_epoch, total_steps)
    return Run(
        config=dataclasses.replace(
            config, alpha=options.get("alpha"), image_size=preprocessing.image_size
        ),
        dataset=dataset,
        options=options,
        metadata=Metadata(preprocessing, dataset.class_names, {"origin": "python -m train"}),
        parallel=parallel,
        objective=Objective(
            model=model.clone(axis_name=parallel.axis_name, frozen_norm=config.freeze_backbone),
            preprocessing=preprocessing,
            optimizer=make_optimizer(config, schedule),
            schedule=schedule,
            trained=get_spec(config.model).head if config.freeze_backbone else None,
            label_smoothing=config.label_smoothing,
            ema_decay=config.ema_decay,
            remat=config.remat,
            axis_name=parallel.axis_name,
        ),
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        workers=_workers(config, dataset),
    )


def initial_variables(run: Run) -> dict[str, Any]:
    """Fresh variables on the host, or those of `--init-from` with a new classifier if need be."""
    model = run.objective.model.clone(axis_name=None)
    size = run.preprocessing.image_size
    key = jax.random.key(run.config.seed)
    # Compiled, so that the forward pass, which the parameters do not depend on, falls away.
    fresh = jax.jit(lambda key: model.init(key, jnp.zeros((1, size, size, 3))))(key)
    variables: dict[str, Any] = jax.tree.map(np.asarray, dict(fresh))
    if run.config.weights:
        _, trained = load_weights(run.config.weights)
        trained = jax.tree.map(np.asarray, dict(trained))
        head = get_spec(run.config.model).head
        if not _same_classes(run):
            for collection, groups in variables.items():
                trained[collection] |= {name: groups[name] for name in head if name in groups}
        variables = trained
    return variables


def abstract_state(run: Run) -> TrainState:
    """The shapes of a state of this run, without computing one."""
    model = run.objective.model.clone(axis_name=None)
    return jax.eval_shape(partial(create_state, run.objective), abstract_variables(model))


def describe(run: Run, output: Path, state: Any, first_step: int) -> str:
    """Say in a few lines what is about to be trained."""
    params = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    data, size = run.dataset, run.preprocessing.image_size
    preferred = data.preset.image_size if data.preset else size
    raised = ""
    if size == run.objective.model.min_image_size > preferred:
        raised = f" (raised from {preferred}: {run.config.model} takes no less)"
    test = "" if data.test is None else f", {len(data.test)} test"
    devices = jax.devices()
    width = "" if run.config.alpha is None else f" alpha {run.config.alpha:g}"
    begin = f"continues after step {first_step} of" if first_step else "trains for"
    return (
        f"{run.config.model}{width}, {params:,} parameters, on "
        f"{run.config.dataset} at {size}×{size}{raised}: {len(data.train)} training, "
        f"{len(data.validation)} validation{test} images of {len(data.class_names)} classes\n"
        f"{begin} {run.total_steps} steps of {run.config.batch_size} images on {len(devices)} "
        f"{devices[0].device_kind} device(s) with {run.config.parallel}, into {output}"
    )


def default_output(config: Config) -> Path:
    """runs/<model>-<dataset>-<time>."""
    dataset = config.dataset.removeprefix("folder:").rstrip("/").rpartition("/")[2]
    time = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    return Path("runs") / f"{config.model}-{dataset.replace(':', '-')}-{time}"


def _inherited_options(config: Config, num_classes: int) -> Options:
    """The options of the weights to start from (their width and padding, say)."""
    name, options = load_options(str(config.weights))
    if name != config.model:
        raise InputError(
            f"{config.weights} holds {name}, not {config.model}; take --model {name}, or other "
            "weights"
        )
    for option, value in config.network_options.items():
        there = options.get(option, getattr(create_model(name), option))
        if value != there and option != "dropout_rate":
            raise InputError(
                f"{config.weights} holds {name} with {option} {there}, not {value}; leave it out, "
                "or take other weights"
            )
    if options.get("folded") and not config.eval_only:
        raise InputError(f"{config.weights} has folded normalization and cannot be trained")
    classes = options.get("num_classes", 1000)
    if config.eval_only and classes != num_classes:
        raise InputError(
            f"{config.weights} has {classes} classes, {config.dataset} has {num_classes}"
        )
    return options


def _same_classes(run: Run) -> bool:
    """Whether the classifier of `--init-from` fits: as many classes, and no other names."""
    _, options = load_options(str(run.config.weights))
    names = load_metadata(str(run.config.weights)).class_names
    same_number = options.get("num_classes", 1000) == len(run.dataset.class_names)
    return same_number and names in (None, run.dataset.class_names)


def _preprocessing(config: Config, dataset: Dataset, least: int) -> Preprocessing:
    """Choose size and crop as the data set prefers, the other numbers as the weights say.

    A size that is not asked for is raised to the least that the network takes.
    """
    base = dataset.preset or Preprocessing(get_spec(config.model).image_size)
    if config.weights:
        base = load_metadata(config.weights).preprocessing
    sizes = dataset.preset or base
    size = config.image_size or max(least, sizes.image_size)
    resize = sizes.resize_size and math.ceil(size * sizes.resize_size / sizes.image_size)
    return dataclasses.replace(base, image_size=size, resize_size=resize)


def _workers(config: Config, dataset: Dataset) -> int:
    chosen = dataset.workers if config.workers is None else config.workers
    return default_workers() if chosen is None else chosen
