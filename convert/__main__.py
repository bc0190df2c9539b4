"""`python -m convert`: reference weights to a weights directory, or back to torch."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import FlagCreatePairsOff

from convert import engine
from convert.options import count_known, size_of
from convert.rule import Rule
from convert.rules import RULES
from convert.sources import Source, read_source, write_tensors
from flaxmobile.cli import command
from flaxmobile.errors import InputError, unknown
from flaxmobile.registry import create_model, resolve_name
from flaxmobile.weights import Metadata, load_options, load_weights, save_weights

PROG = "python -m convert"


@dataclass(frozen=True)
class Config:
    """Convert reference weights to a weights directory, or with --to-torch back to a torch file."""

    weights: Path
    """File of reference weights; with --to-torch a weights directory."""
    output: Path
    """Weights directory to make; with --to-torch a file."""
    model: str | None = None
    """Name or alias of the network; `flaxmobile list` shows them."""
    source: Literal["auto", "torchvision", "timm", "timm-tf", "authors", "mediapipe"] = "auto"
    """Whose names the file has; auto recognises them."""
    alpha: float | None = None
    """Width multiplier, to be checked against the file's."""
    to_torch: Annotated[bool, FlagCreatePairsOff] = False
    """Write a torch state dict instead."""

    def check(self) -> None:
        """Raise InputError for values that cannot be or that do not go together."""
        if self.to_torch:
            if self.model is not None or self.alpha is not None:
                raise InputError(
                    "--to-torch reads model and alpha from --weights: leave these flags out"
                )
        elif self.model is None:
            raise InputError("--model is missing: the name of the network whose weights these are")
        else:
            create_model(self.model, **({} if self.alpha is None else {"alpha": self.alpha}))


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
    source = read_source(config.weights)
    origin, rule = _recognise(name, config.source, source)
    found = engine.to_flax(rule, name, source.tensors, config.alpha)
    facts = rule.facts(source.sha256, found.model.num_classes)
    file = {"origin": origin, "file": config.weights.name, "sha256": source.sha256}
    metadata = Metadata(facts.preprocessing, facts.class_names, {**file, **facts.source})
    save_weights(config.output, name, found.options, found.variables, metadata)
    used, ignored = len(source.tensors) - len(found.ignored), len(found.ignored)
    reasons = f" ({', '.join(sorted(set(found.ignored.values())))})" if ignored else ""
    print(f"found {origin}'s {name} with {size_of(found.model)}")
    print(f"used {used} tensors, ignored {ignored}{reasons}")
    print(f"wrote {config.output}")


def convert_back(config: Config) -> None:
    """Write a torch state dict from a weights directory."""
    name, _ = load_options(config.weights)
    rules = _rules_of(name, config.source)
    origin, rule = next(iter(rules.items()))
    model, variables = load_weights(config.weights)
    tensors = engine.from_flax(rule, model, variables)
    write_tensors(config.output, tensors, rule.version)
    print(f"found {name} with {size_of(model)}")
    print(f"wrote {config.output}: {len(tensors)} tensors under {origin}'s names")


def _rules_of(name: str, source: str) -> dict[str, Rule]:
    """The rules for a network by origin: all of them, or that of the source."""
    rules = {origin: rule for (origin, model), rule in RULES.items() if model == name}
    if source == "auto" and rules:
        return rules
    if source not in rules:
        raise unknown(f"--source for {name}", source, ["auto", *rules] if rules else [])
    return {source: rules[source]}


def _recognise(name: str, source: str, file: Source) -> tuple[str, Rule]:
    """The origin that knows most of the file's names."""
    rules = _rules_of(name, source)
    known = {origin: count_known(rule, file.tensors) for origin, rule in rules.items()}
    origin, *others = [name for name in known if known[name] == max(known.values())]
    if known[origin] == 0:
        raise InputError(
            f"none of the file's {len(file.tensors)} names, such as {next(iter(file.tensors))!r}, "
            f"belongs to {name} from {' or '.join(rules)}; is it another network's?"
        )
    if others:
        raise InputError(
            f"{name} has the same names from {' and '.join([origin, *others])}, which pad and "
            "normalize differently: say with --source whose the file is"
        )
    return origin, rules[origin]


if __name__ == "__main__":
    sys.exit(main())
