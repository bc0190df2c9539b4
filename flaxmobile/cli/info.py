"""`flaxmobile info NAME`: a network's paper, figures, options and choices."""

import dataclasses
import textwrap
from collections.abc import Iterator, Sequence

import tyro

from flaxmobile.command.flags import parse, reading_arguments
from flaxmobile.descriptions import describe_choices, describe_options
from flaxmobile.registry import get_spec, resolve_name

_WIDTH = 80


@dataclasses.dataclass(frozen=True)
class Config:
    """Explain a network: paper, figures, every option, and where implementations differ."""

    model: tyro.conf.Positional[str]
    """Name or alias of the network; `flaxmobile list` shows them."""


def main(prog: str, argv: Sequence[str]) -> None:
    """Print the description."""
    config = parse(Config, argv, prog)
    with reading_arguments(prog):
        name = resolve_name(config.model)
    print("\n".join(_lines(name)))


def _lines(name: str) -> Iterator[str]:
    spec = get_spec(name)
    yield f"{name} ({', '.join(spec.aliases)})" if spec.aliases else name
    yield from textwrap.wrap(f"{spec.paper}, {spec.year}", _WIDTH)
    yield (
        f"{spec.params / 1e6:.2f} M parameters, {spec.macs / 1e6:.1f} M multiply-adds at "
        f"{spec.image_size}×{spec.image_size}"
    )
    if spec.top1 is not None:
        yield f"{spec.top1:.1f}% top-1 on ImageNet ({spec.top1_source})"
    yield f'\nOptions: create_model("{name}", NAME=VALUE), --options NAME=VALUE\n'
    for option in describe_options(name):
        yield f"  {option.name} = {option.default}"
        yield from textwrap.wrap(option.meaning, _WIDTH, initial_indent=" " * 6,
                                 subsequent_indent=" " * 6)  # fmt: skip
    yield f"\n{describe_choices(name)}"
