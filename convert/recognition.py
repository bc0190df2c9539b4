"""Whose file is it, and of which network? The names say, or else the SHA-256 of published files."""

from convert.options import claims_of
from convert.rule import Rule
from convert.rules import RULES
from convert.sources import Source
from flaxmobile.errors import InputError, unknown

_TORCH = ("torchvision", "timm", "timm-tf", "authors")


def rules_of(model: str, source: str) -> dict[str, Rule]:
    """The rules for a network by origin: all of them, or that of the source.

    Raises:
      InputError: the source has no such network; lists those that have.
    """
    rules = {origin: rule for (origin, name), rule in RULES.items() if name == model}
    if source == "auto" and rules:
        return rules
    if source not in rules:
        raise unknown(f"--source for {model}", source, ["auto", *rules] if rules else [])
    return {source: rules[source]}


def torch_rules_of(model: str, source: str) -> dict[str, Rule]:
    """Those of them whose origin has files of torch.

    Raises:
      InputError: there is none.
    """
    rules = {origin: rule for origin, rule in rules_of(model, source).items() if origin in _TORCH}
    if not rules:
        raise InputError(f"{model} is in no library of torch that is known here")
    return rules


def recognise(model: str, source: str, file: Source) -> tuple[str, Rule]:
    """Find the origin whose names of a network a file has.

    Where origins share their names, the one that published this very file is meant.

    Args:
      model: registered name of the network.
      source: an origin, or "auto" for any.
      file: what was read.

    Raises:
      InputError: the names are another network's, or those of several origins.
    """
    rules = rules_of(model, source)
    fits = {origin: fit(rule, file) for origin, rule in rules.items()}
    best = [origin for origin in fits if fits[origin] == max(fits.values())]
    if fits[best[0]][0] == 0:
        other = other_network(model, file)
        raise InputError(
            f"none of the file's {len(file.tensors)} names, such as {next(iter(file.tensors))!r}, "
            f"belongs to {model} from {' or '.join(rules)}{'; ' * bool(other)}{other}"
        )
    publishers = [origin for origin in best if rules[origin].facts(file.sha256, 0).source]
    if len(best) > 1 and not publishers:
        raise InputError(
            f"{model} has the same names from {' and '.join(best)}, which pad, normalize or "
            "prepare images differently: say with --source whose the file is"
        )
    origin = (publishers or best)[0]
    return origin, rules[origin]


def other_network(model: str, file: Source) -> str:
    """Say which network's names a file has, if they are rather another's than the model's."""
    fits = {key: fit(rule, file) for key, rule in RULES.items()}
    best = max(fits, key=lambda key: fits[key])
    own = [found for (_, name), found in fits.items() if name == model]
    # Of any file some names are somebody's: `fc.weight`, say.
    few = 2 * fits[best][0] <= len(file.tensors)
    if few or fits[best] <= max(own, default=(0, 0)):
        return ""
    origin, name = best
    return f"its names are those of {name} from {origin}: --model {name}"


def fit(rule: Rule, file: Source) -> tuple[int, int]:
    """How many of a file's tensors lie in layers of a rule; then how few of its layers are empty.

    Of the rule's best variant.
    """
    layers = [rule.layout.split(name)[0] for name in claims_of(rule.layout, file.tensors)]
    there = set(layers)
    expected = [
        {layer for _, layer in modules({"alpha": 1.0, **rule.options, **variant})}
        for variant in rule.variants
        for modules in (rule.modules, *rule.other_names)
    ]
    return max((sum(layer in own for layer in layers), -len(own - there)) for own in expected)
