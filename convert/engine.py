"""Strict application of a rule, both ways: every tensor used once, every parameter filled once."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util

from convert.choices import choose, left_out
from convert.options import claims_of, in_its_names, read_options, size_of
from convert.rule import Layout, Options, Rule
from flaxmobile.errors import InputError, nearest
from flaxmobile.layers import Network
from flaxmobile.registry import create_model, options_of
from flaxmobile.variables import abstract_variables

Tree = dict[str, Any]
Arrays = Mapping[str, np.ndarray]


class Converted(NamedTuple):
    """A filled network of ours.

    Attributes:
      model: the network.
      options: of `create_model` that build it.
      variables: {"params": …, "batch_stats": …}.
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


class Target(NamedTuple):
    """Where a tensor goes, and how the origin stores it.

    Attributes:
      path: of our leaf.
      ours: shape of our leaf.
      shape: of the origin's tensor.
      axes: the origin's in our order.
      dtype: of both.
    """

    path: str
    ours: tuple[int, ...]
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    dtype: np.dtype


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
    leaves = _leaves(model)
    targets = _targets(rule, model, leaves)
    spare = left_out(rule, model_name, read, chosen, claims, targets) if chosen else {}
    counters = {_counter(rule.layout, name) for name in targets}
    known = {name: claimants for name, claimants in claims.items() if name not in spare}
    problems += [*refused, *_name_problems(rule.layout, known, targets, counters)]
    for name, target in targets.items():
        for claimant in claims.get(name, ()):
            problems += _value_problems(claimant, tensors[claimant], target)
    if problems:
        raise InputError(
            f"{model_name} with {size_of(model)} cannot be filled: {'; '.join(problems)}"
        )
    variables = {
        target.path: np.ascontiguousarray(first[name].transpose(target.axes).reshape(target.ours))
        for name, target in targets.items()
    }
    constants = _constants(rule, leaves)
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
    flat, leaves = traverse_util.flatten_dict(variables, sep="/"), _leaves(model)
    problems = [
        f"{path} is not {constant.flat[0]} everywhere, as in the origin's network"
        for path, constant in _constants(rule, leaves).items()
        if not np.array_equal(flat[path], constant)
    ]
    tensors: dict[str, np.ndarray] = {}
    for name, target in _targets(rule, model, leaves).items():
        array = np.asarray(flat[target.path])
        problems += _not_finite(target.path, array)
        array = array.reshape([target.shape[axis] for axis in target.axes])
        tensors[name] = array.transpose(np.argsort(target.axes))
        if counter := _counter(rule.layout, name):
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


def _leaves(model: Network) -> Tree:
    """Path of every variable -> its shape and dtype."""
    return traverse_util.flatten_dict(abstract_variables(model), sep="/")


def _targets(rule: Rule, model: Network, leaves: Tree) -> dict[str, Target]:
    """The origin's names of all variables that it has, in its order."""
    options = options_of(model)
    modules = dict(rule.modules(options))
    order, kinds = list(modules), list(rule.layout.leaves)
    ordered = []
    for path, leaf in leaves.items():
        collection, *parts, last = path.split("/")
        module, kind = "/".join(parts), f"{collection}/{last}"
        if kind in rule.constants:
            continue
        kind = rule.layout.kind_of(module, kind)
        lead = (1, 1) if module in rule.as_convolutions and last == "kernel" else ()
        lifted = (*lead, *leaf.shape)
        axes = rule.layout.axes_of(lifted)
        shape = tuple(lifted[i] for i in np.argsort(axes))
        if rule.layout.splits_depthwise and "depthwise" in parts and last == "kernel":
            multiplier = options.get("depth_multiplier", 1)
            shape = (*shape[:2], shape[3] // multiplier, multiplier)
        name = rule.layout.join(modules[module], rule.layout.leaves[kind])
        position = order.index(module), kinds.index(kind)
        target = Target(path, leaf.shape, shape, axes, np.dtype(leaf.dtype))
        ordered.append((position, name, target))
    return {name: target for _, name, target in sorted(ordered)}


def _constants(rule: Rule, leaves: Tree) -> dict[str, np.ndarray]:
    """Path of a variable that the origin's network lacks -> its value."""
    kinds = {path: f"{path.partition('/')[0]}/{path.rpartition('/')[2]}" for path in leaves}
    return {
        path: np.full(leaf.shape, rule.constants[kinds[path]], leaf.dtype)
        for path, leaf in leaves.items()
        if kinds[path] in rule.constants
    }


def _counter(layout: Layout, name: str) -> str | None:
    """The name of the counter beside a tensor, if it has one."""
    layer, tensor = layout.split(name)
    counter = layout.counter
    return layout.join(layer, counter.name) if counter and tensor == counter.beside else None


def _name_problems(
    layout: Layout,
    claims: Mapping[str, Sequence[str]],
    targets: Mapping[str, Target],
    counters: set[str | None],
) -> list[str]:
    missing = [name for name in targets if name not in claims]
    strange = [name for name in claims if name not in targets and name not in counters]
    doubled = [name for name, claimants in claims.items() if len(claimants) > 1]
    names = [name for claimants in claims.values() for name in claimants]
    wrapped = [name for name in names if name.startswith(layout.wrapper)]
    problems = [f"{name} is missing{nearest(name, strange)}" for name in missing]
    problems += [f"{claims[name][0]} is unknown{nearest(name, missing)}" for name in strange]
    problems += [f"{' and '.join(claims[name])} both claim {name}" for name in doubled]
    if wrapped and len(wrapped) < len(names):
        problems.append(
            f"{len(wrapped)} of {len(names)} names start with {layout.wrapper!r}, such as "
            f"{wrapped[0]}; accepted: all or none"
        )
    return problems


def _value_problems(name: str, array: np.ndarray, target: Target) -> list[str]:
    if (array.dtype, array.shape) != (target.dtype, target.shape):
        return [
            f"{name} is {array.dtype}{list(array.shape)}, accepted: "
            f"{target.dtype}{list(target.shape)}"
        ]
    return _not_finite(name, array)


def _not_finite(name: str, array: np.ndarray) -> list[str]:
    count = array.size - np.count_nonzero(np.isfinite(array))
    return [f"{name} holds {count} of {array.size} values that are NaN or infinite"] * bool(count)
