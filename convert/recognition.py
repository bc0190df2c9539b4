"""Recognition of a file's origin and network, by its names or a published SHA-256."""

import re
from collections.abc import Mapping

from convert.formats.contents import Naming
from convert.layouts import TORCH
from convert.parts import has_parts
from convert.quantized import quantized
from convert.reading import Fit, Reading
from convert.rule import Rule
from convert.rules import RULES
from convert.sources import Source
from flaxmobile.errors import InputError, unknown

_ORIGINS = {
    "torch": ("torchvision", "timm", "timm-tf", "fid", "authors", "transformers", "ports"),
    "keras": ("keras",),
}
"""Library -> the origins that publish its files."""

_IN_A_ROW = (
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "mobilenet_v4",
    "mobilenext",
    "mnasnet",
    "blazeface",
)
"""Networks whose rules list the layers in the one order in which files without names run them."""

_STRANGERS = {
    r"(^|/)xception_(41|65|71)/|\bstack\.conv1\.bn_dw\.": (
        "it is DeepLab's Xception (41, 65 or 71), another network: modules of three separable "
        "convolutions, each normalized twice, and strides in the place of pooling"
    )
}
"""Pattern of a name -> what the file is that holds it, and that no rule reads."""


def rules_of(model: str, source: str) -> dict[str, Rule]:
    """Return the rules for a network by origin: all of them, or that of the source.

    Raises:
      InputError: the source has no such network; lists those that have.
    """
    rules = {origin: rule for (origin, name), rule in RULES.items() if name == model}
    if source == "auto" and rules:
        return rules
    if source not in rules:
        raise unknown(f"--source for {model}", source, ["auto", *rules] if rules else [])
    return {source: rules[source]}


def rules_to(library: str, model: str, source: str) -> dict[str, Rule]:
    """Return the rules of `rules_of` whose origin has files of a library: "torch" or "keras".

    Raises:
      InputError: there is none.
    """
    origins = _ORIGINS[library]
    rules = {origin: rule for origin, rule in rules_of(model, source).items() if origin in origins}
    if not rules:
        raise InputError(f"no known {library} library has {model}")
    return rules


def recognise(
    model: str, source: str, file: Source, prefix: str | None = None
) -> tuple[str, Reading]:
    """Find the origin whose names a file has, and read the file by its rule.

    Where origins share their names, the one that published this very file is chosen.

    Args:
      model: registered name of the network.
      source: an origin, or "auto" for any.
      file: the file's tensors and hash.
      prefix: before the network's names; by default it is found.

    Raises:
      InputError: the names are another network's, or those of several origins, or the file holds
        the network several times.
    """
    if file.naming == "numbered" and model not in _IN_A_ROW:
        raise InputError(
            f"the file's layers have no names, and those of {model} stand side by side; accepted "
            f"without names: {', '.join(_IN_A_ROW)}"
        )
    rules = {
        origin: _named_as(rule, file.naming) for origin, rule in rules_of(model, source).items()
    }
    readings = {origin: Reading.of(rule, file.tensors, prefix) for origin, rule in rules.items()}
    best = max(reading.fit for reading in readings.values())
    origins = [origin for origin, reading in readings.items() if reading.fit == best]
    if best.known == 0:
        other = other_network(model, source, file, prefix)
        example = repr(next(iter(file.tensors)))
        below = "" if prefix is None else f" after the prefix {prefix!r}"
        raise InputError(
            f"none of the file's {len(file.tensors)} names{below}, such as {example}, "
            f"belongs to {model} from {' or '.join(rules)}{'; ' * bool(other)}{other}"
        )
    found = list(dict.fromkeys(each.cut for each in readings[origins[0]].prefixes))
    if len(found) > 1:
        raise InputError(
            f"the file holds {model} {len(found)} times, under {' and '.join(map(repr, found))}: "
            "choose one with --prefix"
        )
    origins = _by_classes(origins, readings)
    publishers = [origin for origin in origins if rules[origin].find_published(file.sha256)]
    if len(origins) > 1 and not publishers:
        raise InputError(
            f"{model} has the same names from {' and '.join(origins)}, which pad, normalize or "
            "prepare images differently: name the file's origin with --source"
        )
    origin = (publishers or origins)[0]
    return origin, readings[origin]


def _by_classes(origins: list[str], readings: Mapping[str, Reading]) -> list[str]:
    """Choose among origins of the same names by the number of classes."""

    def agrees(origin: str) -> bool | None:
        rule = readings[origin].rule
        if rule.num_classes is None:
            return None
        model = rule.make(**{**rule.options, **rule.variants[0]})
        return readings[origin].classes(model) == rule.num_classes

    found = {origin: agrees(origin) for origin in origins} if len(origins) > 1 else {}
    exact = [origin for origin, agreement in found.items() if agreement]
    return exact or [origin for origin in origins if found.get(origin) is not False]


def _named_as(rule: Rule, naming: Naming) -> Rule:
    """Return the rule for files of that naming."""
    match naming:
        case "folded":
            return rule.folded()
        case "numbered":
            return rule.numbered(TORCH)
        case "quantized":
            return quantized(rule)
    return rule


def other_network(model: str, source: str, file: Source, prefix: str | None = None) -> str:
    """Name the network or origin that a file's names fit, if they fit it better than the model.

    Args:
      model: registered name of the network.
      source: the origin that was asked for, or "auto" for any.
      file: the file's tensors.
      prefix: before the network's names; by default it is found.
    """
    if file.naming == "numbered":
        return ""
    tensors = file.tensors
    for pattern, stranger in _STRANGERS.items():
        if any(re.search(pattern, name) for name in tensors):
            return stranger
    fits = {
        key: Reading.of(_named_as(rule, file.naming), tensors, prefix).fit
        for key, rule in RULES.items()
        if rule.own_options.get("backbone") != model and has_parts(rule.parts, tensors)
    }
    best = max(fits, key=lambda key: fits[key])
    own = [fit for key, fit in fits.items() if key[1] == model and source in (key[0], "auto")]
    # Names such as `fc.weight` are in many networks, so a few of them say nothing.
    few = 2 * fits[best].known <= len(tensors)
    closest = max(own, default=Fit(0, 0, 0))
    # Layers without names are those of any deeper network, which then lacks more of its own.
    deeper = closest.known > 0 and fits[best].missing < closest.missing
    if few or deeper or fits[best] <= closest:
        return ""
    origin, name = best
    flag = f"--source {origin}" if name == model else f"--model {name}"
    if fits[best][1:] == (0, 0):
        return f"its names are those of {name} from {origin}: {flag}"
    share = f"{fits[best].known} of its {len(tensors)} names"
    return f"{share} are also those of {name} from {origin}; if that is what it is: {flag}"
