"""Weights that a run begins with or learns from: which fit its network and its classes."""

from convert.published.loading import Weights, open_any_weights
from flaxmobile.errors import InputError
from flaxmobile.layers import HeadedNetwork, Model, Network
from flaxmobile.tasks import HEADS, options_of
from flaxmobile.trees import Tree
from train.config import Config
from train.data import Dataset
from train.task_settings import task_of_head

_TRAINING_OPTIONS = (
    "dropout_rate",
    "drop_path_rate",
    "norm_momentum",
    "folded",
    "quantized",
    "given_steps",
)
"""Options that are settings of training, and may differ from those of the weights given."""

_CLASSIFIER_OPTIONS = ("num_classes", "dense_layers", "dropout_rate", "output_stride")
"""Options of a classifier that its backbone need not have under a head."""


def open_teacher(config: Config, dataset: Dataset) -> Weights | None:
    """Open the weights to learn from, of the same classes."""
    if config.distill_from is None or config.eval_only:
        return None
    teacher = open_any_weights(config.distill_from)
    if not same_classes(teacher, dataset):
        raise InputError(
            f"--distill-from {config.distill_from} has {teacher.model.num_classes} classes, not "
            f"the {len(dataset.class_names)} of {config.dataset}: fine-tune it on them first"
        )
    return teacher


def same_classes(weights: Weights, dataset: Dataset) -> bool:
    """Tell whether a classifier fits: as many classes, and no other names."""
    same_number = weights.model.num_classes == len(dataset.class_names)
    return same_number and weights.metadata.class_names in (None, dataset.class_names)


def open_start(config: Config) -> Weights | None:
    """Open the weights to start from or to evaluate."""
    if not config.weights:
        return None
    weights = open_any_weights(config.weights)
    _check_network(weights, config)
    model = weights.model
    goes_on = config.eval_only or (config.quantize and model.quantized)
    if model.folded and not goes_on:
        again = "; with --quantize int8 it can" if model.quantized else ""
        raise InputError(f"{weights.path} has folded normalization and cannot be trained{again}")
    return weights


def _check_network(weights: Weights, config: Config) -> None:
    """Refuse weights of another network; a head can begin over a classifier's backbone."""
    found, backbone = weights.model_name, _backbone_name(weights)
    accepted = {config.network} if config.eval_only else {config.network, config.model}
    if backbone == config.model and found in accepted:
        return
    task = task_of_head(found)
    if task and task != config.task:
        raise InputError(f"{weights.path} holds {found}: add --task {task}, or take other weights")
    head = "" if found == backbone else f" --head {found}"
    wanted = f"{config.head} on {config.model}" if config.head else config.model
    raise InputError(
        f"{weights.path} holds {found if found == backbone else f'{found} on {backbone}'}, not "
        f"{wanted}; take --model {backbone}{head}, or other weights"
    )


def _backbone_name(weights: Weights) -> str:
    name: str = weights.options.get("backbone", weights.model_name)
    return name


def backbone_of(model: Model) -> Network:
    """Return the network itself, or the one under its head."""
    return model.backbone if isinstance(model, HeadedNetwork) else model


def options_of_start(weights: Weights | None, config: Config) -> Tree:
    """Return the options of the weights; for a new head those of the backbone alone."""
    if weights is None:
        return {}
    if weights.model_name == config.network:
        return weights.options
    given = options_of(weights.model)
    wanted = {*weights.options, *HEADS[config.network].backbone_defaults} - {*_CLASSIFIER_OPTIONS}
    return {name: given[name] for name in sorted(wanted & {*given})}


def check_fits(weights: Weights, config: Config, model: Model) -> None:
    """Refuse weights of another variant, or in evaluation those of other classes."""
    ours, theirs = options_of(model), options_of(weights.model)
    free = {*_TRAINING_OPTIONS}
    if weights.model_name != config.network:
        free |= {*_CLASSIFIER_OPTIONS}
    for option in config.network_options:
        wanted, found = ours[option], theirs.get(option, ours[option])
        if wanted != found and option not in free:
            raise InputError(
                f"{weights.path} holds {config.model} with {option} {found}, not {wanted}; leave "
                "it out, or take other weights"
            )
    if config.eval_only and weights.model.num_classes != model.num_classes:
        raise InputError(
            f"{weights.path} has {weights.model.num_classes} classes, {config.dataset} has "
            f"{model.num_classes}"
        )
