"""Facts about weights: from the user, the file itself, its publisher, or the origin's standard."""

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

from convert.formats.contents import NOTHING_SAID, Statements
from convert.rule import Published, Rule
from flaxmobile.errors import InputError
from flaxmobile.layers import Model
from flaxmobile.outputs import OUTPUTS, default_output
from flaxmobile.preprocessing import Preprocessing


class Facts(NamedTuple):
    """Facts about weights beside their numbers.

    Attributes:
      preprocessing: how images are prepared for them.
      class_names: one per class, where known.
      output: activation of the answer, see `flaxmobile.outputs`.
      source: other facts: published name, address, licence.
      assumed: fields of the preprocessing, and "output", that nobody stated.
    """

    preprocessing: Preprocessing
    class_names: tuple[str, ...] | None
    output: str
    source: dict[str, Any]
    assumed: tuple[str, ...]


def facts_about(
    rule: Rule, model: Model, published: Published | None, said: Statements = NOTHING_SAID
) -> Facts:
    """Return the facts about a file of a network's weights.

    Args:
      rule: of the file's origin.
      model: the network.
      published: its publisher's statements, which hold where `said` is silent.
      said: statements of the file and of the user.

    Raises:
      InputError: another number of class names than of classes, a wrong value, or layers before
        the network that cannot be read.
    """
    if said.unread and not {"mean", "std"} <= set(said.preprocessing):
        raise InputError(
            f"images go through {', '.join(said.unread)}, which cannot be read: say with --mean "
            "and --std what the network gets of pixels in 0..1"
        )
    preset = published.preprocessing if published else rule.preset(model)
    if "image_size" in said.preprocessing and "resize_size" not in said.preprocessing:
        preset = preset.with_side(said.preprocessing["image_size"])
    preprocessing = dataclasses.replace(preset, **said.preprocessing)
    preprocessing = preprocessing.for_channels(model.in_channels)
    stated = {*said.preprocessing, *(["resize_size"] if "image_size" in said.preprocessing else [])}
    unstated = [each.name for each in dataclasses.fields(preset) if each.name not in stated]
    if said.output is None and model.num_classes:
        unstated.append("output")
    names = rule.class_names(model.num_classes) if said.class_names is None else said.class_names
    if model.num_classes == 0:
        names = None
    if names is not None and len(names) != model.num_classes:
        raise InputError(
            f"{len(names)} class names were given, the network has {model.num_classes} classes"
        )
    return Facts(
        preprocessing,
        names,
        _output(said.output, model.num_classes),
        {**rule.about, **(published.source if published else {}), **said.source},
        () if published else tuple(unstated),
    )


def _output(stated: str | None, num_classes: int) -> str:
    """Return the stated activation of the answer, or the default; a backbone has no answer."""
    if stated is None or not num_classes:
        return default_output(num_classes)
    if stated not in OUTPUTS:
        raise InputError(
            f"the network's answer is made by {stated}; accepted: {', '.join(OUTPUTS)}; "
            "--no-classifier leaves it out"
        )
    return stated


def read_class_names(path: Path) -> tuple[str, ...]:
    """Read the names of classes: one a line, or JSON: a list, or {"0": name, …}.

    Raises:
      InputError: the file cannot be read, or is neither.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    if not text.lstrip().startswith(("[", "{")):
        return tuple(line.strip() for line in text.splitlines() if line.strip())
    try:
        names = json.loads(text)
        if isinstance(names, dict):
            names = [names[str(index)] for index in range(len(names))]
        if all(isinstance(name, str) for name in names):
            return tuple(names)
    except (ValueError, KeyError):
        pass
    raise InputError(
        f'{path} holds no class names; accepted: one a line, a JSON list, or {{"0": name, …}}'
    )
