"""Strict application of a rule, both ways: every tensor used once, every parameter filled once."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util

from convert.choices import choose, left_out
from convert.options import claims_of, in_its_names, read_options, size_of
from convert.problems import name_problems, not_finite, value_problems
from convert.rule import Options, Rule
from convert.targets import constants_of, counter_of, leaves_of, targets_of
from flaxmobile.errors import InputError
from flaxmobile.layers import Network
from flaxmobile.registry import create_model

Tree = dict[str, Any]
Arrays = Mapping[str, np.ndarray]


class Converted(NamedTuple):
    """A filled network of ours.

    Attributes:
      model: the network.
      options: of `create_model` that build it.
      variables: {"params": …, "batch_stats": …}: views of the file's tensors.
      ignored: tensors of the file that are in no variable, each with the reason.
      left_out: more of them, which the user does not want.
      constants: paths of variables that are in no tensor, because the origin's network has a
        constant in their place.
    """

    model: Network
    options: Tree
    variables: Tree
    ignored: Mapping[str, str]
    left_out: Mapping[str, str]
    constants: tuple[str, ...]


def to_flax(
    rule: Rule,
    model_name: str,
    tensors: Arrays,
    alpha: float | None = None,
    chosen: Options = MappingProxyType({}),
) -> Converted:
    """Turn an origin's tensors into a network of ours.

    Args:
      rule: how the origin stores the network.
      model_name: its registered name.
      tensors: by the file's names.
      alpha: the width that the user expects; by default any.
      chosen: options over those of the file's network, see `convert.choices`.

    Raises:
      InputError: a tensor that is missing, unknown, of another shape or dtype, not finite, or
        claimed twice, or another width than expected; lists all of them with the nearest names.
    """
    reasons = {name: rule.layout.reason_to_ignore(name) for name in tensors}
    tensors = {name: tensor for name, tensor in tensors.items() if reasons[name] is None}
    rule = in_its_names(rule, tensors)
    claims = claims_of(rule.layout, tensors)
    first = {name: tensors[claimants[0]] for name, claimants in claims.items()}
    read, problems = read_options(rule, first, alpha)
    options, refused = choose(rule, read, chosen, first)
    model = create_model(model_name, **options)
    leaves = leaves_of(model)
    targets = targets_of(rule, model, leaves)
    spare = left_out(rule, model_name, read, chosen, claims, targets) if chosen else {}
    counters = {counter_of(rule.layout, name) for name in targets}
    known = {name: claimants for name, claimants in claims.items() if name not in spare}
    problems += [*refused, *name_problems(rule.layout, known, targets, counters)]
    for name, target in targets.items():
        for claimant in claims.get(name, ()):
            problems += value_problems(claimant, tensors[claimant], target)
    if problems:
        raise InputError(
            f"{model_name} with {size_of(model)} cannot be filled: {'; '.join(problems)}"
        )
    variables = {target.path: target.to_ours(first[name]) for name, target in targets.items()}
    constants = constants_of(rule, leaves)
    counter = rule.layout.counter
    ignored = {name: reason for name, reason in reasons.items() if reason}
    ignored |= {claims[name][0]: counter.reason for name in known if counter and name in counters}
    unwanted = {claimant: reason for name, reason in spare.items() for claimant in claims[name]}
    tree = traverse_util.unflatten_dict({**variables, **constants}, sep="/")
    return Converted(model, options, tree, ignored, unwanted, tuple(constants))


def from_flax(rule: Rule, model: Network, variables: Tree) -> dict[str, np.ndarray]:
    """Turn a network of ours into the tensors of an origin, in its order.

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
        if counter := counter_of(rule.layout, name):
            tensors[counter] = np.zeros((), np.int64)
    if problems:
        raise InputError(f"the weights are damaged: {'; '.join(problems)}")
    return tensors


def obstacles(rule: Rule, model: Network) -> list[str]:
    """The options of a network of ours that those of an origin never have."""
    problems = [
        f"{option} is {getattr(model, option)!r}, accepted: {_listed(values)}"
        for option, values in _accepted(rule).items()
        if getattr(model, option) not in values
    ]
    if model.num_classes == 0 and rule.options.get("num_classes") != 0:
        problems.append("num_classes is 0, accepted: 1 or more")
    return problems


def _accepted(rule: Rule) -> dict[str, list[Any]]:
    """The values that an origin's networks have, by option."""
    names = dict.fromkeys(name for variant in rule.variants for name in variant)
    varied = {name: [v[name] for v in rule.variants if name in v] for name in names}
    return {**{name: [value] for name, value in rule.options.items()}, **varied}


def _listed(values: Sequence[Any]) -> str:
    return " or ".join(dict.fromkeys(map(repr, values)))
