"""Which network a file holds: read from the names and shapes of its tensors."""

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np

from convert.rule import Layout, Options, Rule
from flaxmobile.layers import Network

Tree = dict[str, Any]
Arrays = Mapping[str, np.ndarray]

# Rounding makes many alphas the same network; of those that fit, the roundest is meant.
_ALPHAS = list(dict.fromkeys(n / 100 for step in (10, 5, 1) for n in range(step, 401, step)))


def read_options(rule: Rule, tensors: Arrays, alpha: float | None = None) -> tuple[Tree, list[str]]:
    """Read variant, width and number of classes from the names and shapes of the tensors.

    Args:
      rule: how the origin stores the network.
      tensors: by the origin's names.
      alpha: the width that the user expects; by default any.

    Returns:
      Options of `create_model`, and a problem if the width is another one.
    """
    candidates = [_with_alpha(rule, tensors, variant, alpha) for variant in rule.variants]
    best = max(candidates, key=lambda options: _agreement(rule, tensors, options))
    problems = []
    if alpha is not None and best.get("alpha") != alpha:
        problems.append(
            f"--alpha is {alpha}, the tensors have the widths of alpha {best['alpha']}"
            if "alpha" in best
            else f"--alpha is {alpha}; the network has no width multiplier: leave the flag out"
        )
    classifier = dict(rule.modules(best)).get("classifier")
    classes = None if classifier is None else channels_of(rule, tensors, "classifier", classifier)
    return (best if classes is None else {**best, "num_classes": classes}), problems


def _with_alpha(rule: Rule, tensors: Arrays, variant: Options, alpha: float | None) -> Tree:
    """The options of a variant at the roundest width that fits the tensors, or the user's."""
    options = {**rule.options, **variant}
    if rule.widths is None or "alpha" in variant:
        return options
    names = dict(rule.modules({**options, "alpha": 1.0}))
    widths = rule.widths
    found = {
        module: channels_of(rule, tensors, module, names[module])
        for module in widths({**options, "alpha": 1.0})
    }

    def agreement(candidate: float) -> int:
        expected = widths({**options, "alpha": candidate})
        return sum(found[module] == width for module, width in expected.items())

    def distance(candidate: float) -> float:
        expected = widths({**options, "alpha": candidate})
        return sum(abs(math.log(width / (found[m] or width))) for m, width in expected.items())

    whole = (candidate for candidate in _ALPHAS if agreement(candidate) == len(found))
    best = next(whole, None)
    if best is None:  # it has three digits, or the file is damaged
        close = min(_ALPHAS, key=distance)
        middle = round(1000 * close)
        near = [n / 1000 for n in range(max(1, middle - 30), middle + 31)]
        best = max([close, *near], key=agreement)
    if alpha is not None and agreement(alpha) >= agreement(best):
        best = alpha
    return {**options, "alpha": best}


def _agreement(rule: Rule, tensors: Arrays, options: Options) -> tuple[int, int]:
    """How well the names of a variant are those of the file, then how well the widths are."""
    modules = dict(rule.modules(options))
    strangers = set(modules.values()) ^ {rule.layout.split(name)[0] for name in tensors}
    widths = {} if rule.widths is None else rule.widths(options)
    fitting = sum(
        channels_of(rule, tensors, module, modules[module]) == width
        for module, width in widths.items()
    )
    return -len(strangers), fitting


def count_known(rule: Rule, tensors: Arrays) -> int:
    """How many of a file's names belong to a module of the rule, in its best variant."""
    names = [rule.layout.split(name)[0] for name in claims_of(rule.layout, tensors)]
    variants = [{"alpha": 1.0, **rule.options, **variant} for variant in rule.variants]
    known = [
        {name for _, name in modules(options)}
        for options in variants
        for modules in (rule.modules, *rule.other_names)
    ]
    return max(sum(name in modules for name in names) for modules in known)


def in_its_names(rule: Rule, tensors: Arrays) -> Rule:
    """The rule under those of its names that most of a file's tensors have."""
    rules = [
        rule._replace(modules=modules, other_names=())
        for modules in (rule.modules, *rule.other_names)
    ]
    return max(rules, key=lambda rule: count_known(rule, tensors))


def size_of(model: Network) -> str:
    """Say which of its sizes a network has."""
    if getattr(model, "detector", False):
        return f"variant {getattr(model, 'variant', None)}"
    alpha = getattr(model, "alpha", None)
    width = "" if alpha is None else f"alpha {alpha} and "
    return f"{width}{model.num_classes} classes"


def claims_of(layout: Layout, tensors: Arrays) -> dict[str, list[str]]:
    """The origin's names -> the file's names for them."""
    claims = defaultdict(list)
    for name in tensors:
        claims[name.removeprefix(layout.wrapper)].append(name)
    return dict(claims)


def channels_of(rule: Rule, tensors: Arrays, module: str, name: str) -> int | None:
    """The output channels of a module of ours, which the origin calls by that name."""
    kernel = tensors.get(rule.layout.join(name, rule.layout.leaves["params/kernel"]))
    if kernel is None or kernel.ndim not in rule.layout.axes:
        return None
    if rule.layout.splits_depthwise and "depthwise" in module.split("/"):
        return kernel.shape[-2] * kernel.shape[-1]
    return kernel.shape[rule.layout.axes[kernel.ndim][-1]]
