"""`flaxmobile list`: the networks."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from flaxmobile.command.flags import parse
from flaxmobile.specs import SPECS
from flaxmobile.table import RULE, format_table


@dataclasses.dataclass(frozen=True)
class Config:
    """Show every network: names, size at its default options, accuracy, paper."""

    json: bool = False
    """Print a JSON array for machines instead of the table."""


def main(prog: str, argv: Sequence[str]) -> None:
    """Print the networks."""
    config = parse(Config, argv, prog)
    networks = [_describe(name) for name in SPECS]
    print(json.dumps(networks, indent=2) if config.json else _table(networks))


def _describe(name: str) -> dict[str, Any]:
    spec = SPECS[name]
    return {
        "name": name,
        "aliases": spec.aliases,
        "year": spec.year,
        "params": spec.params,
        "macs": spec.macs,
        "image_size": spec.image_size,
        "top1": spec.top1,
        "top1_source": spec.top1_source,
        "paper": spec.paper,
    }


def _table(networks: Sequence[dict[str, Any]]) -> str:
    header = ("name", "aliases", "year", "parameters", "multiply-adds", "size", "top-1", "paper")
    rows = [
        (
            network["name"],
            ", ".join(network["aliases"]),
            str(network["year"]),
            f"{network['params'] / 1e6:.2f} M",
            f"{network['macs'] / 1e6:.1f} M",
            f"{network['image_size']}×{network['image_size']}",
            "" if network["top1"] is None else f"{network['top1']:.1f}%",
            network["paper"],
        )
        for network in networks
    ]
    return format_table([header, RULE, *rows], right=range(2, 7))
