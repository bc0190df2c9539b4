"""Readings: the network that a file holds, read from its tensors' names and shapes by a rule."""

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from convert.parts import Sizes, join
from convert.prefixes import Prefix, find_prefixes
from convert.rule import Options, Rule
from flaxmobile.layers import Model
from flaxmobile.trees import Tree

Arrays = Mapping[str, np.ndarray]

# Rounding makes many alphas the same network; the roundest of those that fit is chosen.
_ALPHAS = list(dict.fromkeys(n / 100 for step in (10, 5, 1) for n in range(step, 401, step)))


class Fit(NamedTuple):
    """Counts of matching and missing names of a file and a rule; larger is better.

    Attributes:
      known: tensors of the file that some layer of the rule names.
      missing: minus the rule's layers without tensors.
      unknown: minus the file's layers that the rule does not name.
    """

    known: int
    missing: int
    unknown: int


@dataclass(frozen=True)
class Reading:
    """A file's tensors under the names of one origin's rule.

    Attributes:
      rule: how the origin stores the network, with those of its names that fit the file best.
      file: the tensors by the file's names, without the ignored ones.
      claims: the origin's name of a tensor -> the file's name of it.
      outside: the file's names of tensors outside the network.
      prefixes: the difference between the file's names and the origin's; more than one where the
        file holds the network more than once.
      layers: the origin's names of its layers, for each of the rule's variants.
      ignored: the file's name of a tensor that no network has -> the reason to ignore it.
      parts: the file's name of a kernel that was joined -> channels of its parts.
      head: a sentence about the file's own head, if that is the classifier (`convert.heads`).
    """

    rule: Rule
    file: Arrays
    claims: Mapping[str, str]
    outside: Sequence[str]
    prefixes: Sequence[Prefix]
    layers: Sequence[frozenset[str]]
    ignored: Mapping[str, str]
    parts: Sizes
    head: str = ""

    @classmethod
    def of(cls, rule: Rule, tensors: Arrays, prefix: str | None = None) -> "Reading":
        """Read a file's tensors, given by the file's names, by a rule.

        Args:
          rule: how the origin stores the network.
          tensors: by the file's names.
          prefix: before the network's names; by default the one with which most are known.
        """
        if rule.prepare is not None:
            tensors = rule.prepare(tensors)
        tensors, parts = join(rule.parts, tensors)
        reasons = {name: rule.layout.reason_to_ignore(name) for name in tensors}
        ignored = {name: reason for name, reason in reasons.items() if reason is not None}
        file = {name: tensor for name, tensor in tensors.items() if name not in ignored}
        models = [rule.make(**{**rule.options, **each}) for each in rule.variants]
        readings = []
        for modules in (rule.modules, *rule.other_names):
            layers = [frozenset(layer for _, layer in modules(model)) for model in models]
            prefixes = find_prefixes(rule.layout, frozenset().union(*layers), file, prefix)
            own = {name: prefixes[0].own(name) for name in file}
            claims = {theirs: name for name, theirs in own.items() if theirs is not None}
            outside = [name for name, theirs in own.items() if theirs is None]
            named = rule._replace(modules=modules, other_names=())
            if prefix is not None:
                why = f"outside the prefix {prefixes[0].cut!r}"
                ignored, outside = {**ignored, **dict.fromkeys(outside, why)}, []
            readings.append(cls(named, file, claims, outside, prefixes, layers, ignored, parts))
        return max(readings, key=lambda reading: reading.fit)

    def without(self, names: Container[str]) -> "Reading":
        """Return the reading without some tensors, given by the file's names."""
        claims = {theirs: name for theirs, name in self.claims.items() if name not in names}
        outside = [name for name in self.outside if name not in names]
        return replace(self, claims=claims, outside=outside)

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the user about the names."""
        difference = self.prefixes[0].describe()
        names = f"the file's names are the origin's {difference}" if difference else ""
        return tuple(filter(None, (self.rule.note, names, self.head)))

    @cached_property
    def tensors(self) -> Arrays:
        """Tensors by the origin's names."""
        return {name: self.file[own] for name, own in self.claims.items()}

    @cached_property
    def fit(self) -> Fit:
        """Fit of the names to the rule's best variant, regardless of shapes."""
        return max(map(self._fit, self.layers))

    def channels(self, module: str, layer: str) -> int | None:
        """Return the output channels of our module, which the origin calls `layer`."""
        layout = self.rule.layout
        kernel = self.tensors.get(layout.join(layer, layout.leaves["params/kernel"]))
        if kernel is None or kernel.ndim not in layout.axes:
            return None
        if layout.splits(module):
            return kernel.shape[-2] * kernel.shape[-1]
        return kernel.shape[layout.axes[kernel.ndim][-1]]

    def options(self, alpha: float | None = None) -> tuple[Tree, list[str]]:
        """Read variant, width and number of classes from the names and shapes.

        Args:
          alpha: the width that the user expects; by default any.

        Returns:
          Options of `create_model`, and a problem if the width is another one.
        """
        rule = self.rule
        differing = [fit.missing + fit.unknown for fit in map(self._fit, self.layers)]
        sized = (
            self._sized(variant, alpha)
            for variant, names in zip(rule.variants, differing, strict=True)
            if names == max(differing)  # names do not tell widths, and widths take time
        )
        best = max(sized, key=lambda options: self._agreement(rule.make(**options)))
        problems = []
        if alpha is not None and best.get("alpha") != alpha:
            problems.append(
                f"--alpha is {alpha}, the tensors have the widths of alpha {best['alpha']}"
                if "alpha" in best
                else f"--alpha is {alpha}; the network has no width multiplier: leave the flag out"
            )
        model = rule.make(**best)
        read = {"num_classes": self.classes(model), "in_channels": self._image_channels(model)}
        return {**best, **{name: n for name, n in read.items() if n is not None}}, problems

    def classes(self, model: Model) -> int | None:
        """Return the number of outputs of the classifier, if the file has one."""
        modules = dict(self.rule.modules(model))
        heads = ((name, 1) for name in reversed(model.heads) if name in modules)
        classifier, for_each = self.rule.classifier or next(heads, ("", 1))
        channels = self.channels(classifier, modules[classifier]) if classifier else None
        return None if channels is None else channels // for_each

    def _image_channels(self, model: Model) -> int | None:
        """Return the channels of the images, where they are not 3: those of the first kernel."""
        layout, first = self.rule.layout, next(iter(dict(self.rule.modules(model)).values()))
        kernel = self.tensors.get(layout.join(first, layout.leaves["params/kernel"]))
        if kernel is None or kernel.ndim != 4:
            return None
        channels = kernel.shape[layout.axes[4][2]]
        return None if channels in (0, 3) else channels

    def _fit(self, expected: frozenset[str]) -> Fit:
        layers = [self.rule.layout.split(name)[0] for name in self.claims]
        outside = {self.rule.layout.split(name)[0] for name in self.outside}
        found = set(layers)
        known = sum(layer in expected for layer in layers)
        return Fit(known, -len(expected - found), -len(found - expected) - len(outside))

    def _agreement(self, model: Model) -> tuple[int, int]:
        """Rank a network: first by how many names differ, then by how many widths agree."""
        layers = dict(self.rule.modules(model))
        fit = self._fit(frozenset(layers.values()))
        widths = {} if self.rule.widths is None else self.rule.widths(model)
        fitting = sum(self.channels(name, layers[name]) == width for name, width in widths.items())
        return fit.missing + fit.unknown, fitting

    def _sized(self, variant: Options, alpha: float | None) -> Tree:
        """Add to a variant's options the roundest alpha that fits the widths, or the user's."""
        rule, options = self.rule, {**self.rule.options, **variant}
        if rule.widths is None or "alpha" in variant:
            return options

        def expected(candidate: float) -> Mapping[str, int]:
            return rule.widths(rule.make(**options, alpha=candidate)) if rule.widths else {}

        layers = dict(rule.modules(rule.make(**options)))
        found = {module: self.channels(module, layers[module]) for module in expected(1.0)}

        def fitting(candidate: float) -> int:
            return sum(found[module] == width for module, width in expected(candidate).items())

        def distance(candidate: float) -> float:
            widths = expected(candidate).items()
            return sum(abs(math.log(width / (found[module] or width))) for module, width in widths)

        best = next((each for each in _ALPHAS if fitting(each) == len(found)), None)
        if best is None:  # it has three digits, or the file is damaged
            close = min(_ALPHAS, key=distance)
            middle = round(1000 * close)
            near = [n / 1000 for n in range(max(1, middle - 30), middle + 31)]
            best = max([close, *near], key=fitting)
        if alpha is not None and fitting(alpha) >= fitting(best):
            best = alpha
        return {**options, "alpha": best}
