"""One network for every rule, and every variant of it: what is traced once serves many tests."""

import pytest
from flax import traverse_util

from convert import engine
from convert.facts import facts_about
from convert.reading import Reading
from convert.rules import RULES
from convert.rules.timm.names import FAMILIES

ALPHAS = {
    ("torchvision", "mobilenet_v2"): 1.4,
    ("torchvision", "mobilenet_v3_large"): 0.35,
    ("torchvision", "mobilenet_v3_small"): 0.35,
    ("torchvision", "mnasnet"): 0.35,
}
"""Widths that torchvision has; 0.5 where any width will do."""


def fill(rule, name, tensors, **chosen):
    """Our network from a file's tensors, by a rule."""
    return engine.to_flax(Reading.of(rule, tensors), name, chosen)


def facts_of(rule, sha256="", num_classes=1000):
    """What a rule says about a file whose SHA-256 begins like this."""
    options = {"num_classes": num_classes, **rule.options, **rule.variants[0]}
    published = rule.find_published(sha256.ljust(64, "0"))
    return facts_about(rule, rule.make(**options), published)


def alpha_for(origin, name, variant):
    """A width that the library has: for timm, the smallest of the variant."""
    for family in FAMILIES:
        own = family.options.items() <= {"alpha": 1.0, **variant}.items()
        if own and (family.origin, family.model) == (origin, name):
            return int(family.widths[0]) / 100 if family.widths else 1.0
    return ALPHAS.get((origin, name), 0.5)


def options_for(origin, name, variant):
    """Options of `build`, all that tell the rule's networks apart."""
    rule = RULES[origin, name]
    alpha = {"alpha": alpha_for(origin, name, variant)} if rule.widths else {}
    return {"num_classes": 7, **alpha, **rule.options, **variant}


def _case(origin, name, *more):
    group = pytest.mark.xdist_group(f"{origin} {name}")
    return pytest.param(origin, name, *more, marks=group)


def each_rule(wanted=lambda origin, rule: True):
    """Parametrise over (origin, name)."""
    cases = [_case(*key) for key, rule in RULES.items() if wanted(key[0], rule)]
    return pytest.mark.parametrize(("origin", "name"), cases)


def each_variant(*origins):
    """Parametrise over (origin, name, variant)."""
    cases = [
        _case(*key, variant)
        for key, rule in RULES.items()
        if key[0] in origins
        for variant in rule.variants
    ]
    return pytest.mark.parametrize(("origin", "name", "variant"), cases, ids=str)


def assert_modules_are_those_of(rule, found):
    """A rule names every module of a converted network once, and widths that it has."""
    kernels = traverse_util.flatten_dict(found.variables, sep="/")
    modules = [module for module, _ in rule.modules(found.model)]
    assert set(modules) == {path.split("/", 1)[1].rpartition("/")[0] for path in kernels}
    assert len(modules) == len(set(modules))
    if rule.widths:
        for module, width in rule.widths(found.model).items():
            assert kernels[f"params/{module}/kernel"].shape[-1] == width
