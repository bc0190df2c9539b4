"""`flaxmobile list`: the networks, or the published weights that can be fetched by name."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Annotated, Any

from tyro.conf import FlagCreatePairsOff

from convert.published.catalogue import CATALOGUE, Entry
from flaxmobile.command.flags import parse
from flaxmobile.specs import SPECS
from flaxmobile.table import RULE, format_table


@dataclasses.dataclass(frozen=True)
class Config:
    """Show every network: names, size at its default options, accuracy, paper."""

    pretrained: Annotated[bool, FlagCreatePairsOff] = False
    """Show published weights instead, by the names that load_pretrained and all commands take."""
    json: bool = False
    """Print a JSON array for machines instead of the table."""


def main(prog: str, argv: Sequence[str]) -> None:
    """Print the networks, or the published weights."""
    config = parse(Config, argv, prog)
    if config.pretrained:
        rows = [_describe_weights(each) for each in CATALOGUE.values()]
    else:
        rows = [_describe(name) for name in SPECS]
    if config.json:
        print(json.dumps(rows, indent=2))
    else:
        print((_table_of_weights if config.pretrained else _table)(rows))


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
    header = ("name", "aliases", "year", "params", "multiply-adds", "size", "top-1")
    rows = [
        (
            network["name"],
            ", ".join(network["aliases"]),
            str(network["year"]),
            f"{network['params'] / 1e6:.2f} M",
            f"{network['macs'] / 1e6:.1f} M",
            f"{network['image_size']}×{network['image_size']}",
            "" if network["top1"] is None else f"{network['top1']:.1f}%",
        )
        for network in networks
    ]
    table = format_table([header, RULE, *rows], right=range(2, 7))
    return f"{table}\n\n`flaxmobile info NAME`: its paper and every option"


def _describe_weights(entry: Entry) -> dict[str, Any]:
    published = entry.published
    return {
        "name": published.name,
        "model": entry.model,
        "params": published.params,
        "top1": published.top1,
        "top1_source": published.top1_source,
        "licence": published.licence,
        "preprocessing": published.preprocessing.to_json(),
        "url": published.url,
        "repository": published.repository,
    }


def _table_of_weights(weights: Sequence[dict[str, Any]]) -> str:
    header = ("name", "M", "%", "px")
    rows = [
        (
            each["name"],
            _millions(each["params"]),
            "" if each["top1"] is None else f"{each['top1']:.1f}",
            str(each["preprocessing"]["image_size"]),
        )
        for each in weights
    ]
    sources = ", ".join(dict.fromkeys(each["top1_source"] for each in weights if each["top1"]))
    table = format_table([header, RULE, *rows], right=(1, 2, 3))
    origins = {each["name"].partition(":")[0]: each["licence"] for each in weights}
    licences = ", ".join(f"{origin} {licence}" for origin, licence in origins.items())
    notes = (
        "M: millions of parameters; %: top-1; px: side of the images\n"
        f"top-1 from: {sources}\nlicences: {licences}\n"
        "--json also has the network, the whole preset, and the address"
    )
    return f"{table}\n\n{notes}"


def _millions(count: int) -> str:
    return f"{count / 1e6:.1f}" if count < 9.95e6 else f"{count / 1e6:.0f}"
