"""Strict application of a rule, both ways: every tensor used once, every parameter filled once."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util

from convert.rule import Layout, Rule
from flaxmobile.errors import InputError, nearest
from flaxmobile.layers import Network
from flaxmobile.registry import create_model
from flaxmobile.variables import abstract_variables

Tree = dict[str, Any]
Arrays = Mapping[str, np.ndarray]

# Rounding makes many alphas the same network; of those that fit, the roundest is meant.
_ALPHAS = [step / 1000 for grid in (100, 50, 10, 1) for step in range(grid, 4001, grid)]


class Converted(NamedTuple):
    """A filled network of ours.

    Attributes:
      model: the network.
      options: of `create_model` that build it.
      variables: {"params": …, "batch_stats": …}.
      ignored: tensors of the file that are in no variable, each with the reason.
    """

    model: Network
    options: Tree
    variables: Tree
    ignored: Mapping[str, str]


class Target(NamedTuple):
    """Where a tensor goes, and how the origin stores it."""

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype


def to_flax(rule: Rule, model_name: str, tensors: Arrays, alpha: float | None = None) -> Converted:
    """Turn an origin's tensors into a network of ours.

    Args:
      rule: how the origin stores the network.
      model_name: its registered name.
      tensors: by the file's names.
      alpha: the width that the user expects; by default any.

    Raises:
      InputError: a tensor that is missing, unknown, of another shape or dtype, not finite, or
        claimed twice, or another width than expected; lists all of them with the nearest names.
    """
    claims = _claims(rule.layout, tensors)
    first = {name: tensors[claimants[0]] for name, claimants in claims.items()}
    options, problems = read_options(rule, first, alpha)
    model = create_model(model_name, **options)
    targets = _targets(rule, model)
    counters = {_counter(rule.layout, name) for name in targets}
    problems += _name_problems(rule.layout, claims, targets, counters)
    for name, target in targets.items():
        for claimant in claims.get(name, ()):
            problems += _value_problems(claimant, tensors[claimant], target)
    if problems:
        raise InputError(
            f"{model_name} with {size_of(model)} cannot be filled: {'; '.join(problems)}"
        )
    axes = rule.layout.axes
    variables = {
        target.path: np.ascontiguousarray(first[name].transpose(axes[len(target.shape)]))
        for name, target in targets.items()
    }
    ignored = {claims[name][0]: rule.layout.counter.reason for name in claims if name in counters}
    return Converted(model, options, traverse_util.unflatten_dict(variables, sep="/"), ignored)


def from_flax(rule: Rule, model: Network, variables: Tree) -> dict[str, np.ndarray]:
    """Turn a network of ours into the tensors of an origin, in its order.

    Args:
      rule: how the origin stores the network.
      model: the network.
      variables: of that network.

    Raises:
      InputError: the origin's network lacks an option of this one, or a parameter is not finite.
    """
    problems = [
        f"{option} is {getattr(model, option)!r}, accepted: {value!r}"
        for option, value in rule.options.items()
        if getattr(model, option) != value
    ]
    if model.num_classes == 0:
        problems.append("num_classes is 0, accepted: 1 or more")
    if problems:
        raise InputError(f"the origin has no such network: {'; '.join(problems)}")
    flat = traverse_util.flatten_dict(variables, sep="/")
    tensors: dict[str, np.ndarray] = {}
    for name, target in _targets(rule, model).items():
        array = np.asarray(flat[target.path])
        problems += _not_finite(target.path, array)
        tensors[name] = array.transpose(np.argsort(rule.layout.axes[array.ndim]))
        if counter := _counter(rule.layout, name):
            tensors[counter] = np.zeros((), np.int64)
    if problems:
        raise InputError(f"the weights are damaged: {'; '.join(problems)}")
    return tensors


def read_options(rule: Rule, tensors: Arrays, alpha: float | None = None) -> tuple[Tree, list[str]]:
    """Read width and number of classes from the shapes of the tensors.

    Args:
      rule: how the origin stores the network.
      tensors: by the origin's names.
      alpha: the width that the user expects; by default any.

    Returns:
      Options of `create_model`, and a problem if the width is another one.
    """
    found = {module: _output_channels(rule, tensors, module) for module in rule.widths(1.0)}

    def agreement(candidate: float) -> int:
        return sum(found[module] == width for module, width in rule.widths(candidate).items())

    best, problems = max(_ALPHAS, key=agreement), []
    if alpha is not None and agreement(alpha) >= agreement(best):
        best = alpha
    elif alpha is not None:
        problems.append(f"--alpha is {alpha}, the tensors have the widths of alpha {best}")
    options = {**rule.options, "alpha": best}
    classes = _output_channels(rule, tensors, "classifier")
    return (options if classes is None else {**options, "num_classes": classes}), problems


def count_known(rule: Rule, tensors: Arrays) -> int:
    """How many of a file's names belong to a module of the rule."""
    modules = set(rule.modules.values())
    return sum(name.rpartition(".")[0] in modules for name in _claims(rule.layout, tensors))


def size_of(model: Network) -> str:
    """Say which of its sizes a network has."""
    return f"alpha {model.alpha} and {model.num_classes} classes"


def _claims(layout: Layout, tensors: Arrays) -> dict[str, list[str]]:
    """The origin's names -> the file's names for them."""
    claims = defaultdict(list)
    for name in tensors:
        claims[name.removeprefix(layout.wrapper)].append(name)
    return dict(claims)


def _targets(rule: Rule, model: Network) -> dict[str, Target]:
    """The origin's names of all variables, in its order."""
    modules, leaves = list(rule.modules), list(rule.layout.leaves)
    ordered = []
    for path, leaf in traverse_util.flatten_dict(abstract_variables(model), sep="/").items():
        collection, *parts, last = path.split("/")
        module, kind = "/".join(parts), f"{collection}/{last}"
        shape = tuple(leaf.shape[i] for i in np.argsort(rule.layout.axes[leaf.ndim]))
        name = f"{rule.modules[module]}.{rule.layout.leaves[kind]}"
        position = modules.index(module), leaves.index(kind)
        ordered.append((position, name, Target(path, shape, np.dtype(leaf.dtype))))
    return {name: target for _, name, target in sorted(ordered)}


def _counter(layout: Layout, name: str) -> str | None:
    """The name of the counter beside a tensor, if it has one."""
    module, _, leaf = name.rpartition(".")
    return f"{module}.{layout.counter.name}" if leaf == layout.counter.beside else None


def _output_channels(rule: Rule, tensors: Arrays, module: str) -> int | None:
    kernel = tensors.get(f"{rule.modules[module]}.{rule.layout.leaves['params/kernel']}")
    if kernel is None or kernel.ndim not in rule.layout.axes:
        return None
    return kernel.shape[rule.layout.axes[kernel.ndim][-1]]


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
