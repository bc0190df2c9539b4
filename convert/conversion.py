"""From a file of reference weights to a Flax network.

Nothing here prints or writes: `flaxmobile.save_weights` does.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from convert import engine, verification
from convert.choices import HEADLESS, assumed, check_asked
from convert.engine import Filled
from convert.facts import Facts, facts_about
from convert.formats.contents import NOTHING_SAID, Head, Naming, Statements
from convert.heads import adopt_head
from convert.problems import FillError
from convert.reading import Reading
from convert.recognition import other_network, recognise
from convert.rule import Options, Published
from convert.rules import RULES
from convert.sources import FOUND, Selection, read_source
from flaxmobile.errors import InputError, shorten
from flaxmobile.tasks import resolve_name
from flaxmobile.weights import Metadata


@dataclass(frozen=True)
class Conversion:
    """A Flax network filled from a file, and what is known about both.

    Attributes:
      model_name: registered name of the network.
      origin: whose names the file has.
      file: where the numbers come from.
      sha256: of the file.
      precision: of the file's numbers.
      filled: the network, its options and variables, and how every tensor was used.
      assumed: options that no tensor shows and nobody stated; the origin's networks have them.
      facts: preprocessing, class names, output, and which of them are assumed.
      notes: sentences about the file.
      agreement: of the origin's network with this one, if images were given.
    """

    model_name: str
    origin: str
    file: Path
    sha256: str
    precision: str
    filled: Filled
    assumed: Options
    facts: Facts
    notes: tuple[str, ...]
    agreement: verification.Agreement | None = None

    @property
    def metadata(self) -> Metadata:
        """Metadata for a weights directory."""
        source: dict[str, Any] = {
            "origin": self.origin,
            "file": self.file.name,
            "sha256": self.sha256,
        }
        if self.precision != "float32":
            source["precision"] = self.precision
        source |= self.facts.source
        if self.agreement is not None:
            source["verification"] = self.agreement._asdict()
        facts = self.facts
        return Metadata(facts.preprocessing, facts.class_names, source, facts.output)

    def describe(self) -> Iterator[str]:
        """Yield lines for the user: the network, and how every tensor was used."""
        filled, facts, model = self.filled, self.facts, self.filled.model
        published = f", published as {facts.source['weights']}" if "weights" in facts.source else ""
        yield f"found {self.origin}'s {self.model_name} with {model.size_text()}{published}"
        yield from self.notes
        yield f"images: {facts.preprocessing.describe()}"
        yield from self._describe_assumptions()
        reasons = ", ".join(sorted(set(filled.ignored.values())))
        why = f" ({reasons})" if reasons else ""
        yield f"used {len(filled.used)} tensors, ignored {len(filled.ignored)}{why}"
        if filled.constants:
            count, example = len(filled.constants), filled.constants[0]
            yield (
                f"filled {count} parameters, such as {example}, with constants: "
                f"{self.origin}'s network does not have them"
            )
        for reason in dict.fromkeys(filled.left_out.values()):
            names = [name for name, own in filled.left_out.items() if own == reason]
            yield f"left out, as {reason}: {shorten(names)}"
        if self.agreement is not None:
            yield str(self.agreement)

    def report(self) -> str:
        """Return the lines of `describe`, and how every tensor was used."""
        uses = {
            **dict.fromkeys(self.filled.used, "used"),
            **{name: f"ignored: {why}" for name, why in self.filled.ignored.items()},
            **{name: f"left out: {why}" for name, why in self.filled.left_out.items()},
        }
        return "\n".join([*self.describe(), *(f"{name}: {use}" for name, use in uses.items())])

    def _describe_assumptions(self) -> Iterator[str]:
        silent = " ".join(f"{name}={_written(value)}" for name, value in self.assumed.items())
        if silent:
            yield f"assumed, as no tensor shows it: {silent} (--options)"
        if fields := [name for name in self.facts.assumed if name in _FLAGS]:
            flags = ", ".join(_FLAGS[name] for name in fields)
            yield f"assumed, as {self.origin}'s standard: the images' preparation ({flags})"
        if "output" in self.facts.assumed:
            yield f"assumed: the answer is a {self.facts.output} (--output-activation)"


_FLAGS = {
    name: f"--{name.replace('_', '-')}"
    for name in ("image_size", "resize_size", "mean", "std", "interpolation")
}
"""Field of the preprocessing -> the flag that states it."""


def _written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def convert_file(
    path: Path,
    model: str,
    *,
    source: str = "auto",
    chosen: Options = MappingProxyType({}),
    published: Published | None = None,
    stated: Statements = NOTHING_SAID,
    images: Sequence[Path] = (),
    selection: Selection = FOUND,
) -> Conversion:
    """Fill a Flax network from a file of reference weights.

    Args:
      path: the file.
      model: name or alias of the network.
      source: whose names the file has; "auto" recognises them.
      chosen: options over those of the file's network, such as num_classes=0 for a backbone; alpha
        is checked against the file's.
      published: the publisher's statements about the file; by default looked up by its SHA-256.
      stated: the user's statements, over those of the file and of its publisher.
      images: files on which the origin's network and this one must agree; needs its library.
      selection: which tensors of the file are meant.

    Raises:
      InputError: the file is damaged, of another network, or does not fill this one; an option is
        not the file's; or the two networks do not agree.
    """
    name = resolve_name(model)
    file = read_source(path, selection)
    said = stated.over(file.said)
    chosen = {**said.options, **chosen}
    if images:
        _check_comparable(path, file.naming)
    origin, reading = recognise(name, source, file, selection.prefix)
    rule = reading.rule
    if other := other_network(name, source, file, selection.prefix):
        raise InputError(f"{path} holds no {name}: {other}")
    published = published or rule.find_published(file.sha256)
    if published is None:
        check_asked(origin, name, rule, chosen)
    if chosen.get("num_classes") != 0:
        reading = adopt_head(reading, file.head)
    filled = _fill(reading, name, chosen, file.head)
    found = Conversion(
        model_name=name,
        origin=origin,
        file=path,
        sha256=file.sha256,
        precision=file.precision,
        filled=filled,
        assumed={} if published else assumed(rule, chosen, filled.options),
        facts=facts_about(rule, filled.model, published, said),
        notes=(*file.notes, *reading.notes),
    )
    return replace(found, agreement=_verify(found, reading, images)) if images else found


def _check_comparable(path: Path, naming: Naming) -> None:
    """Raise InputError unless the origin's own network can run with a file's tensors."""
    if naming == "quantized":
        raise InputError(
            f"--verify compares networks of floating point; {path} is quantized: leave --verify out"
        )
    if naming != "stated":
        raise InputError(
            f"--verify runs the origin's own network, which normalizes; {path} has that folded "
            "into its convolutions: leave --verify out"
        )


def _fill(reading: Reading, name: str, chosen: Options, head: Head | None) -> Filled:
    """Fill the network; if that fails, the error says whether a backbone could be filled."""
    try:
        return engine.to_flax(reading, name, chosen)
    except FillError as error:
        hint = ""
        if chosen.get("num_classes") != 0:
            with contextlib.suppress(InputError):
                engine.to_flax(reading, name, {**chosen, **HEADLESS})
                why = f", which has {head.obstacle}" if head and head.obstacle else ""
                hint = f"; --no-classifier would load it as a backbone, without its head{why}"
        raise FillError(f"{error.sentence}{hint}", error.kinds) from None


def _verify(found: Conversion, reading: Reading, images: Sequence[Path]) -> verification.Agreement:
    """Compare the origin's network with ours on images; raise InputError if they do not agree."""
    filled, preprocessing = found.filled, found.facts.preprocessing
    network = _build_origin(found, reading)
    agreement = verification.compare(network, filled.model, filled.variables, preprocessing, images)
    if not agreement.relative <= verification.TOLERANCE:
        raise InputError(
            f"{found.origin}'s {found.model_name} and flaxmobile's do not agree: {agreement}"
        )
    return agreement


def _build_origin(found: Conversion, reading: Reading) -> verification.Outputs:
    """Build the origin's network, with the tensors as they are in the file."""
    origin, name, path = found.origin, found.model_name, found.file
    if reading.head:
        raise InputError(
            f"--verify runs {origin}'s own network, which has another classifier than {path}; "
            "without --verify the file is converted"
        )
    layout, model = reading.rule.layout, found.filled.model
    names = dict(RULES[origin, name].modules(model))  # of the library, not of another port
    library = {theirs: names[module] for module, theirs in reading.rule.modules(model)}
    tensors = {}
    for theirs, own in reading.claims.items():
        layer, leaf = layout.split(theirs)
        if own not in found.filled.left_out:
            tensors[layout.join(library.get(layer, layer), leaf)] = reading.file[own]
    return verification.build_origin(origin, name, model, path, tensors, reading.rule.version)
