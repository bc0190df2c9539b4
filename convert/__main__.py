"""`python -m convert`: from reference weights to a weights directory, or back to torch."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import FlagCreatePairsOff

from convert.choices import HEADLESS
from convert.conversion import convert_back, convert_file
from convert.fetching import Fetched, fetch, publisher_of
from convert.sources import write_tensors
from convert.verification import find_images
from flaxmobile.command import flags, streams
from flaxmobile.command.options import read_options
from flaxmobile.errors import InputError
from flaxmobile.registry import create_model, resolve_name
from flaxmobile.weights import save_weights

PROG = "python -m convert"

_TORCH_SUFFIXES = (".pth", ".pt", ".safetensors")


@dataclass(frozen=True)
class Config:
    """Convert reference weights to a weights directory, or with --to-torch back to a torch file."""

    weights: Path
    """File of reference weights, or torchvision:NAME or timm:NAME, such as
    torchvision:IMAGENET1K_V2, to fetch published ones; with --to-torch a weights directory."""
    output: Path
    """Weights directory to write; with --to-torch a .pth or .safetensors file."""
    model: str | None = None
    """Name or alias of the network; `flaxmobile list` shows them."""
    source: Literal["auto", "torchvision", "timm", "timm-tf", "keras", "authors", "mediapipe"] = (
        "auto"
    )
    """Origin of the file; auto recognises it by the names of the tensors."""
    alpha: float | None = None
    """Width multiplier: checked against the file's; for torchvision:NAME, the width to fetch."""
    classifier: Annotated[
        bool, FlagCreatePairsOff, tyro.conf.arg(help_behavior_hint="(default: keep it)")
    ] = True
    """Write a backbone and leave out the file's head, whatever it is."""
    options: tuple[str, ...] = ()
    """Options that override those of the file's network, such as aux_logits=false."""
    verify: Annotated[
        tyro.conf.UseAppendAction[tuple[Path, ...]], tyro.conf.arg(metavar="IMAGE|DIR")
    ] = ()
    """Run the origin's network and this one on an image, or on all images of a directory, and write
    nothing unless they agree. May be repeated. Needs the origin's library."""
    to_torch: Annotated[bool, FlagCreatePairsOff] = False
    """Write a torch state dict instead."""

    @property
    def chosen(self) -> dict[str, Any]:
        """Options that override those of the file's network."""
        options = read_options(self.options, alpha=self.alpha)
        return options if self.classifier else {**options, **HEADLESS}

    def check(self) -> None:
        """Raise InputError for values that are not accepted, alone or together."""
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
            raise InputError("use --no-classifier instead of --options num_classes=0")
        create_model(self.model, **given)
        publisher = publisher_of(self.weights)
        if publisher and not self.source.startswith(("auto", publisher)):
            raise InputError(f"--source is {self.source}, --weights {self.weights}: leave one out")


def main(argv: Sequence[str] | None = None, prog: str = PROG) -> int:
    """Run the command and return its exit status."""

    def run() -> None:
        config = flags.parse(Config, sys.argv[1:] if argv is None else argv, prog)
        with flags.reading_arguments(prog):
            config.check()
        if config.output.exists():
            raise InputError(
                f"{config.output} exists already; remove it or choose another --output"
            )
        if config.to_torch:
            write_torch_file(config)
        else:
            write_directory(config)

    return streams.run(prog, run)


def write_directory(config: Config) -> None:
    """Write a weights directory from a file of reference weights."""
    model, images = resolve_name(str(config.model)), find_images(config.verify)
    fetched = Fetched(config.weights, config.source)
    if publisher_of(config.weights):
        alpha = config.chosen.get("alpha")
        fetched = fetch(config.weights, model, alpha, lambda url: print(f"fetching {url}"))
    found = convert_file(
        fetched.path,
        model,
        source=fetched.origin,
        chosen=config.chosen,
        published=fetched.published,
        images=images,
    )
    filled = found.filled
    save_weights(config.output, found.model_name, filled.options, filled.variables, found.metadata)
    print("\n".join([*found.describe(), f"wrote {config.output}"]))


def write_torch_file(config: Config) -> None:
    """Write a torch state dict from a weights directory."""
    found = convert_back(config.weights, config.source)
    write_tensors(config.output, found.tensors, found.version)
    print(f"found {found.model_name} with {found.size}")
    print(f"wrote {config.output}: {len(found.tensors)} tensors under {found.origin}'s names")


if __name__ == "__main__":
    sys.exit(main())
