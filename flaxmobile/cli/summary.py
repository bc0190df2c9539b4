"""`flaxmobile summary MODEL`: a network's parameters and multiply-adds, layer by layer."""

import dataclasses
import json
from collections.abc import Sequence

import tyro

from flaxmobile.command.flags import parse, reading_arguments
from flaxmobile.command.options import read_options
from flaxmobile.registry import create_model, get_spec
from flaxmobile.summary import summarize


@dataclasses.dataclass(frozen=True)
class Config:
    """Count a network's parameters and multiply-adds, layer by layer, for one image."""

    model: tyro.conf.Positional[str]
    """Name or alias of the network; `flaxmobile list` shows them."""
    alpha: float | None = None
    """Width multiplier; by default the network's."""
    image_size: int | None = None
    """Side of the input in pixels; by default the size at which its accuracy was measured."""
    num_classes: int | None = None
    """Width of the classifier, 0 for none; by default the network's."""
    options: tuple[str, ...] = ()
    """More options of the network, such as groups=8 or flavour=paper."""
    json: bool = False
    """Print JSON for machines instead of the table."""


def main(prog: str, argv: Sequence[str]) -> None:
    """Print the counts."""
    config = parse(Config, argv, prog)
    with reading_arguments(prog):
        options = read_options(config.options, alpha=config.alpha, num_classes=config.num_classes)
        size = get_spec(config.model).image_size if config.image_size is None else config.image_size
        summary = summarize(create_model(config.model, **options), size)
    print(json.dumps(summary.to_json(), indent=2) if config.json else summary)
