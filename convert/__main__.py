"""`python -m convert`: reference weights to a weights directory, or back to torch."""

import contextlib
import functools
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import FlagCreatePairsOff

from convert import engine, verification
from convert.choices import HEADLESS
from convert.engine import Converted
from convert.fetching import Fetched, fetch, publisher_of
from convert.options import claims_of, size_of
from convert.recognition import other_network, recognise, torch_rules_of
from convert.rule import Facts, Rule
from convert.sources import Source, read_source, write_tensors
from flaxmobile.cli import command
from flaxmobile.cli.options import read_options
from flaxmobile.errors import InputError
from flaxmobile.registry import create_model, resolve_name
from flaxmobile.weights import Metadata, load_metadata, load_options, load_weights, save_weights

PROG = "python -m convert"

_TORCH_SUFFIXES = (".pth", ".pt", ".safetensors")


@dataclass(frozen=True)
class Config:
    """Convert reference weights to a weights directory, or with --to-torch back to a torch file."""

    weights: Path
    """File of reference weights, or torchvision:NAME or timm:NAME, such as
    torchvision:IMAGENET1K_V2, to fetch published ones; with --to-torch a weights directory."""
    output: Path
    """Weights directory to make; with --to-torch a file, .pth or .safetensors."""
    model: str | None = None
    """Name or alias of the network; `flaxmobile list` shows them."""
    source: Literal["auto", "torchvision", "timm", "timm-tf", "keras", "authors", "mediapipe"] = (
        "auto"
    )
    """Whose names the file has; auto recognises them."""
    alpha: float | None = None
    """Width multiplier, to be checked against the file's; of torchvision:NAME, which to fetch."""
    classifier: Annotated[bool, FlagCreatePairsOff] = True
    """With --no-classifier, leave the file's head out, its own or another, and make a backbone."""
    options: tuple[str, ...] = ()
    """Options of the network over those of the file's, such as aux_logits=false to leave auxiliary
    classifiers out."""
    verify: Annotated[
        tyro.conf.UseAppendAction[tuple[Path, ...]], tyro.conf.arg(metavar="IMAGE|DIR")
    ] = ()
    """Run the origin's own network and this one on an image, or on those of a directory, and write
    nothing unless they agree. May be repeated. Needs the origin's library."""
    to_torch: Annotated[bool, FlagCreatePairsOff] = False
    """Write a torch state dict instead."""

    @property
    def chosen(self) -> dict[str, Any]:
        """Options over those of the file's network."""
        return {**read_options(self.options), **({} if self.classifier else HEADLESS)}

    def check(self) -> None:
        """Raise InputError for values that cannot be or that do not go together."""
        if self.to_torch:
            if self.model or self.alpha or self.options or self.verify or not self.classifier:
                raise InputError(
                    "--to-torch reads model, alpha and options from --weights and verifies "
                    "nothing: leave these flags out"
                )
            if self.output.suffix not in _TORCH_SUFFIXES:
                raise InputError(
                    f"--output is {self.output}; with --to-torch accepted: a file name in "
                    f"{', '.join(_TORCH_SUFFIXES)}"
                )
            return
        if self.model is None:
            raise InputError("--model is missing: the name of the network whose weights these are")
        if self.verify and not self.classifier:
            raise InputError("--verify compares logits, which --no-classifier leaves out")
        given = read_options(self.options, alpha=self.alpha)
        if given.get("num_classes", 1) == 0:
            raise InputError("--options num_classes=0 is --no-classifier here")
        create_model(self.model, **given)
        publisher = publisher_of(self.weights)
        if publisher and not self.source.startswith(("auto", publisher)):
            raise InputError(f"--source is {self.source}, --weights {self.weights}: leave one out")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""

    def run() -> None:
        config = command.parse(Config, sys.argv[1:] if argv is None else argv, PROG)
        with command.reading_arguments(PROG):
            config.check()
        if config.output.exists():
            raise InputError(
                f"{config.output} exists already; remove it or choose another --output"
            )
        if config.to_torch:
            convert_back(config)
        else:
            convert(config)

    return command.run(PROG, run)


def convert(config: Config) -> None:
    """Write a weights directory from a file of reference weights."""
    name = resolve_name(str(config.model))
    images = verification.find_images(config.verify)
    fetched = Fetched(config.weights, config.source)
    if publisher_of(config.weights):
        fetched = fetch(config.weights, name, config.alpha)
    source = read_source(fetched.path)
    origin, rule = recognise(name, fetched.origin, source)
    found = _fill(rule, name, source, config)
    facts_of = fetched.facts or functools.partial(rule.facts, source.sha256)
    facts = rule.sized(facts_of(found.model.num_classes), found.options)
    file = {"origin": origin, "file": fetched.path.name, "sha256": source.sha256}
    if source.precision != "float32":
        file["precision"] = source.precision
    report = list(_describe(origin, name, found, facts, source))
    checked: dict[str, Any] = {}
    if images:
        network = _origin_of(origin, rule, name, found, fetched.path, source)
        agreement = verification.compare(
            network, found.model, found.variables, facts.preprocessing, images
        )
        if not agreement.relative <= verification.TOLERANCE:
            raise InputError(f"{origin}'s {name} and ours do not agree: {agreement}")
        report.append(str(agreement))
        checked["verification"] = agreement._asdict()
    source.tensors.clear()  # their memory is needed again
    metadata = Metadata(facts.preprocessing, facts.class_names, {**file, **facts.source, **checked})
    save_weights(config.output, name, found.options, found.variables, metadata)
    print("\n".join([*report, f"wrote {config.output}"]))


def convert_back(config: Config) -> None:
    """Write a torch state dict from a weights directory."""
    name, _ = load_options(config.weights)
    rules = torch_rules_of(name, config.source)
    model, variables = load_weights(config.weights)
    # It goes back to where it comes from, or to the first origin that has such a network.
    own = load_metadata(config.weights).source.get("origin")
    order = sorted(rules, key=lambda origin: origin != own)
    origin = next((o for o in order if not engine.obstacles(rules[o], model)), order[0])
    rule = rules[origin]
    tensors = engine.from_flax(rule, model, variables)
    write_tensors(config.output, tensors, rule.version)
    print(f"found {name} with {size_of(model)}")
    print(f"wrote {config.output}: {len(tensors)} tensors under {origin}'s names")


def _fill(rule: Rule, name: str, source: Source, config: Config) -> Converted:
    """Fill the network; where that fails, the error says what else the file may be."""
    chosen = config.chosen
    alpha = chosen.pop("alpha", config.alpha)

    def fill(extra: Mapping[str, Any]) -> Converted:
        return engine.to_flax(rule, name, source.tensors, alpha, {**chosen, **extra})

    if other := other_network(name, source):
        raise InputError(f"{config.weights} holds no {name}: {other}")
    try:
        return fill({})
    except InputError as error:
        hint = ""
        if config.classifier:
            with contextlib.suppress(InputError):
                fill(HEADLESS)
                hint = "; --no-classifier would load it as a backbone, without its head"
        raise InputError(f"{error}{hint}") from None


def _describe(
    origin: str, name: str, found: Converted, facts: Facts, source: Source
) -> Iterator[str]:
    """Say what was found, and what became of every tensor."""
    model, preset = found.model, facts.preprocessing
    published = f", published as {facts.source['weights']}" if "weights" in facts.source else ""
    yield f"found {origin}'s {name} with {size_of(model)}{published}"
    norm = "" if model.folded else f", normalization epsilon {model.norm_epsilon:g}"
    yield f"for images of {preset.image_size}×{preset.image_size}, {model.padding} padding{norm}"
    if source.precision != "float32":
        yield f"widened from {source.precision}, which changes no number"
    reasons = f" ({', '.join(sorted(set(found.ignored.values())))})" if found.ignored else ""
    used = len(source.tensors) - len(found.ignored) - len(found.left_out)
    yield f"used {used} tensors, ignored {len(found.ignored)}{reasons}"
    if found.constants:
        made = f"made {len(found.constants)} parameters, such as {found.constants[0]}"
        yield f"{made}: constants, which {origin}'s network does without"
    for reason in dict.fromkeys(found.left_out.values()):
        yield f"left out, as {reason}: {', '.join(found.left_out)}"


def _origin_of(
    origin: str, rule: Rule, name: str, found: Converted, file: Path, source: Source
) -> verification.Logits:
    """The origin's own network, which gets the tensors as they are in the file."""
    tensors = {
        theirs: source.tensors[ours]
        for theirs, (ours, *_) in claims_of(rule.layout, source.tensors).items()
        if ours not in found.left_out
    }
    return verification.build_origin(origin, name, found.model, file, tensors, rule.version)


if __name__ == "__main__":
    sys.exit(main())
