"""The command line of training: flags over the settings of a run or a recipe."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from convert.published.loading import open_any_weights
from flaxmobile.buckets import is_url, open_bucket
from flaxmobile.command.flags import parse
from flaxmobile.errors import InputError, flag
from flaxmobile.registry import model_options, resolve_name
from train import PROG
from train.config import OF_ONE_CALL, Config
from train.mirror import newest_copy
from train.recipes import check_recipe, get_recipe, recipe_for, scale_to_batch
from train.task_settings import settings_of_weights, task_defaults

_FREE_ON_RESUME = (
    *OF_ONE_CALL, "workers", "log_every", "data_dir", "epochs", "steps", "checkpoint_every",
    "remat", "dataset", "labels", "keep", "patience", "on_bad_image", "skip_nonfinite",
    "track",
)  # fmt: skip
"""Settings that may change when a run is resumed; a new length also changes the schedule. Data may
have moved: `train.output` compares the images."""


def read_config(argv: Sequence[str], prog: str = PROG) -> Config:
    """Parse the command line; flags override the run's or recipe's settings, these the defaults.

    Raises:
      InputError: an unknown network or recipe, a value out of range, or a flag that contradicts
        the run that is resumed.
    """
    # The first pass finds the recipe or the run; the second shows its values as defaults in --help.
    first = parse(Config, [word for word in argv if word not in ("-h", "--help")], prog)
    continues = first.output and (first.resume or first.eval_only)
    saved = load_config(_run_directory(first)) if continues else None
    if saved is not None:
        if first.eval_only:  # evaluates the run's weights, not those it began with
            saved = dataclasses.replace(saved, init_from=None)
        config = _with_full_name(parse(Config, argv, prog, default=saved))
        if config.epochs != saved.epochs and config.steps == saved.steps:
            config = dataclasses.replace(config, steps=None)  # the length that was asked for last
        if not config.eval_only:
            _check_resumable(config, saved, str(first.output))
    else:
        settings = task_defaults(first.task, _with_full_name(first).model)
        dataset = first.dataset if _gives(argv, "--dataset") else settings["dataset"]
        recipe = first.recipe or recipe_for(dataset, first.task)
        settings |= get_recipe(recipe) if recipe else {}
        if first.init_from and not _gives(argv, "--model"):
            weights = open_any_weights(first.init_from)
            settings |= settings_of_weights(first.task, weights.model_name, weights.options)
        name = first.model if _gives(argv, "--model") else settings.get("model", first.model)
        if "alpha" not in model_options(resolve_name(name)):  # a recipe's for any network
            settings.pop("alpha", None)
        defaults = Config(**{**settings, "recipe": recipe})
        config = _with_full_name(parse(Config, argv, prog, default=defaults))
        if recipe:
            check_recipe(recipe, config.model)
        if first.recipe:
            settings = dataclasses.asdict(config)
            config = dataclasses.replace(config, **scale_to_batch(first.recipe, settings))
    config.check()
    return config


def _run_directory(config: Config) -> Any:
    output = str(config.output)
    if not is_url(output):
        return Path(output)
    return open_bucket(output) if config.eval_only else newest_copy(output)


def _gives(argv: Sequence[str], name: str) -> bool:
    return any(word.partition("=")[0] == name for word in argv)


def _with_full_name(config: Config) -> Config:
    return dataclasses.replace(config, model=resolve_name(config.model))


def load_record(output: Any) -> dict[str, Any] | None:
    """Read the config.json of a run in a directory (`Path`); None if there is no run yet.

    Raises:
      InputError: it is damaged.
    """
    path = output / "config.json"
    if not path.is_file():
        return None
    try:
        record: dict[str, Any] = json.loads(path.read_text())
        record["settings"], record["model_options"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged or of another version: {error!r}") from None
    return record


def load_config(output: Any) -> Config | None:
    """Read the settings of a run; None if there is no run yet.

    Raises:
      InputError: config.json is damaged or of another version.
    """
    record = load_record(output)
    if record is None:
        return None
    try:
        return Config.from_json(record["settings"])
    except TypeError as error:
        raise InputError(
            f"{output / 'config.json'} is damaged or of another version: {error!r}"
        ) from None


def _check_resumable(config: Config, saved: Config, output: str) -> None:
    for field in dataclasses.fields(Config):
        new, old = getattr(config, field.name), getattr(saved, field.name)
        if new != old and field.name not in _FREE_ON_RESUME:
            raise InputError(
                f"{flag(field.name)} is {new}, but the run in {output} has {old}: leave the flag "
                "out to continue that run, or start another one in a new --output"
            )
