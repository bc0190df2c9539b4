"""Options that override the file's: no classifier, or no auxiliary classifiers."""

from collections.abc import Iterable

from convert.reading import Reading
from convert.rule import Options, Rule
from convert.targets import leaves_of
from flaxmobile.errors import InputError
from flaxmobile.tasks import build
from flaxmobile.trees import Tree

HEADLESS: Options = {"num_classes": 0}
"""The options that `--no-classifier` chooses."""


def choose(
    reading: Reading, model_name: str, read: Options, chosen: Options
) -> tuple[Tree, list[str]]:
    """Override the options that were read from a file with a user's.

    Args:
      reading: the file.
      model_name: registered name of the network.
      read: the options of the file's network.
      chosen: the user's. A user may choose options in which the origin's networks differ, options
        that no tensor shows, and 0 classes.

    Returns:
      The options, and a problem for each choice that the file contradicts.
    """
    free = {name for variant in reading.rule.variants for name in variant}
    refused = {
        name: value
        for name, value in chosen.items()
        if name in read and name not in free and value != read[name]
        if not (name == "num_classes" and value == 0) and _is_shown(model_name, read, {name: value})
    }
    problems = [
        f"{name} is {value!r}, the file's network has {read[name]!r}"
        for name, value in refused.items()
    ]
    options = {**read, **{name: chosen[name] for name in chosen if name not in refused}}
    if options.get("num_classes") == 0:
        options |= _without_replaced_layers(reading, read)
    return options, problems


def _is_shown(model_name: str, read: Options, change: Options) -> bool:
    """Say whether a change of the options changes the tensors that the network has."""
    before, after = (build(model_name, **{**read, **each}) for each in ({}, change))
    return leaves_of(before) != leaves_of(after)


_SILENT = ("padding", "norm_epsilon", "transform_input")
"""Options that no tensor shows and that change the outputs."""


def assumed(rule: Rule, chosen: Options, options: Options) -> Options:
    """Return those of a network's options that the rule gave it, and that nobody stated."""
    return {name: options[name] for name in _SILENT if name in rule.options and name not in chosen}


def check_asked(origin: str, name: str, rule: Rule, chosen: Options) -> None:
    """Raise InputError if the user must choose an option and did not."""
    for option, who in rule.asked.items():
        if option not in chosen:
            raise InputError(
                f"no tensor shows whether {origin}'s {name} has {option}: {who}; add --options "
                f"{option}=true or --options {option}=false"
            )


def _without_replaced_layers(reading: Reading, read: Options) -> Tree:
    """Turn off the layers before the classifier whose width is not the origin's."""
    rule = reading.rule
    model = rule.make(**read)
    layers = dict(rule.modules(model))
    widths = {} if rule.widths is None else rule.widths(model)
    return {
        option: False
        for module, option in rule.removable.items()
        if module in layers and reading.channels(module, layers[module]) != widths[module]
    }


def left_out(
    reading: Reading, read: Options, chosen: Options, targets: Iterable[str]
) -> dict[str, str]:
    """List the tensors that the chosen network has no layer for, each with the reason.

    Without a classifier these are the origin's head, and all tensors outside the body: those whose
    name does not share its first part with a layer of the body.

    Args:
      reading: the file.
      read: the options of the file's network.
      chosen: the user's.
      targets: the origin's names of the tensors that the chosen network has.

    Returns:
      By the file's names.
    """
    rule, layout = reading.rule, reading.rule.layout
    placed = {layout.split(name)[0] for name in targets}
    modules = dict(rule.modules(rule.make(**read)))
    removed = {layer for layer in modules.values() if layer not in placed}
    not_body = {*rule.removable, *rule.network.heads}
    body = {
        layer.partition(layout.separator)[0]
        for module, layer in modules.items()
        if module.partition("/")[0] not in not_body
    }
    headless = chosen.get("num_classes") == 0
    others = [f"{name}={value}" for name, value in chosen.items() if value != read.get(name)]
    kind = "a backbone" if headless else f"a network with {' '.join(others)}"

    def is_left_out(name: str) -> bool:
        layer = layout.split(name)[0]
        outside = name.partition(layout.separator)[0] not in body
        return layer not in placed and (layer in removed or (headless and outside))

    names = [own for name, own in reading.claims.items() if is_left_out(name)]
    return dict.fromkeys([*names, *(reading.outside if headless else [])], f"not part of {kind}")
