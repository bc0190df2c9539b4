"""Strict application of a rule, both ways: every tensor used once, every parameter filled once."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util

from convert.choices import choose, left_out
from convert.parts import part_problems, split
from convert.problems import FillError, compare_names, find_cause, not_finite, value_problems
from convert.reading import Reading
from convert.rule import Options, Rule
from convert.targets import Target, constants_of, leaves_of, targets_of
from flaxmobile.errors import InputError
from flaxmobile.layers import Model
from flaxmobile.tasks import build, options_of
from flaxmobile.trees import Tree


class Filled(NamedTuple):
    """A Flax network with the numbers of a file.

    Attributes:
      model: the network.
      options: of `create_model` that build it.
      variables: {"params": …, "batch_stats": …}: views of the file's tensors.
      used: names of the file's tensors that are in the variables, in the origin's order.
      ignored: the origin's counters, which no Flax network has -> why they may be ignored.
      left_out: the file's other tensors that are not the network's, or that the user's options
        exclude -> the reason.
      constants: paths of variables that the file has no tensor for, because they are constant in
        the origin's network.
    """

    model: Model
    options: Tree
    variables: Tree
    used: tuple[str, ...]
    ignored: Mapping[str, str]
    left_out: Mapping[str, str]
    constants: tuple[str, ...]


def to_flax(reading: Reading, model_name: str, chosen: Options = MappingProxyType({})) -> Filled:
    """Fill a Flax network with the tensors of a file.

    Args:
      reading: the file, by a rule of its origin for the network.
      model_name: registered name of the network.
      chosen: options over those of the file's network, see `convert.choices`; `alpha` is the width
        that the user expects, by default any.

    Raises:
      InputError: a tensor that is missing, unknown, of another shape or dtype, not finite, or
        claimed twice, or another width than expected; lists all of them with the nearest names.
    """
    rule = reading.rule
    others = {name: value for name, value in chosen.items() if name != "alpha"}
    read, problems = reading.options(chosen.get("alpha"))
    options, refused = choose(reading, model_name, read, others)
    model = build(model_name, **options)
    leaves = leaves_of(model)
    targets = targets_of(rule, model, leaves)
    excluded = left_out(reading, read, others, targets) if others else {}
    kept = reading.without(excluded)
    parts = part_problems(rule, model, kept.claims, kept.parts)
    _check(kept, model_name, model, targets, [*problems, *refused, *parts])
    constants, counter = constants_of(rule, leaves), rule.layout.counter
    counters = [own for name, own in kept.claims.items() if name not in targets]
    flat = {
        path: target.to_ours(kept.tensors[name])
        for name, target in targets.items()
        for path in (target.path, *target.copies)
    }
    return Filled(
        model,
        options,
        variables=traverse_util.unflatten_dict({**flat, **constants}, sep="/"),
        used=tuple(kept.claims[name] for name in targets),
        ignored=dict.fromkeys(counters, counter.reason) if counter else {},
        left_out={**reading.ignored, **excluded},
        constants=tuple(constants),
    )


def _check(
    reading: Reading,
    model_name: str,
    model: Model,
    targets: Mapping[str, Target],
    problems: Sequence[str],
) -> None:
    """Raise FillError if there are problems with the options, or with names or values."""
    names = compare_names(reading.rule.layout, reading.claims, reading.outside, targets)
    values = [
        problem
        for name, target in targets.items()
        if name in reading.claims
        for problem in value_problems(reading.claims[name], reading.tensors[name], target)
    ]
    kinds = [problems, *names.problems(), values]
    if not any(kinds):
        return
    # Widths and classes are known only where most names are, and the classifier's.
    unsized = any(targets[name].path.startswith("params/classifier") for name in names.missing)
    known = 2 * len(names.missing) < len(targets) and not unsized
    size = f" with {model.size_text()}" if known else ""
    cause = find_cause(names, targets, kinds)
    rest = [[problem for problem in kind if problem != cause] for kind in kinds]
    raise FillError(f"{model_name}{size} cannot be filled: {cause}", rest)


def from_flax(rule: Rule, model: Model, variables: Tree) -> dict[str, np.ndarray]:
    """Turn a Flax network into the tensors of an origin, in its order.

    Args:
      rule: how the origin stores the network.
      model: the network.
      variables: of that network.

    Raises:
      InputError: the origin's network lacks an option of this one, or a parameter is not finite.
    """
    if problems := obstacles(rule, model):
        raise InputError(f"the origin has no such network: {'; '.join(problems)}")
    flat, leaves = traverse_util.flatten_dict(variables, sep="/"), leaves_of(model)
    problems = [
        f"{path} is not {constant.flat[0]} everywhere, as in the origin's network"
        for path, constant in constants_of(rule, leaves).items()
        if not np.array_equal(flat[path], constant)
    ]
    tensors: dict[str, np.ndarray] = {}
    for name, target in targets_of(rule, model, leaves).items():
        array = np.asarray(flat[target.path])
        problems += not_finite(target.path, array)
        tensors[name] = target.to_theirs(array)
        if counter := rule.layout.counter_beside(name):
            tensors[counter] = np.zeros((), np.int64)
    if problems:
        raise InputError(f"the weights are damaged: {'; '.join(problems)}")
    return split(rule, model, tensors)


def obstacles(rule: Rule, model: Model) -> list[str]:
    """List the options under which the origin has no such network."""
    problems, own = [], options_of(model)
    for option, values in _accepted(rule).items():
        if option in rule.asked or option not in own:  # of another backbone, which is said
            continue
        if (value := own[option]) not in values:
            listed = " or ".join(dict.fromkeys(map(repr, values)))
            problems.append(f"{option} is {value!r}, accepted: {listed}")
    if own["dense_layers"]:
        problems.append(f"dense_layers is {own['dense_layers']!r}, accepted: ()")
    return problems


def _accepted(rule: Rule) -> dict[str, list[Any]]:
    """Return the values that an origin's networks have, by option."""
    networks = [{**rule.options, **variant} for variant in rule.variants]
    names = dict.fromkeys(name for network in networks for name in network)
    return {name: [each[name] for each in networks if name in each] for name in names}
