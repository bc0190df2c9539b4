"""`flaxmobile push`: weights to the Hugging Face Hub."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import FlagCreatePairsOff

from convert.published.pushing import push
from flaxmobile.command.flags import parse


@dataclasses.dataclass(frozen=True)
class Config:
    """Upload a weights directory to the Hugging Face Hub, where timm and load_pretrained read it.

    Needs huggingface_hub, and a login: `hf auth login`, or HF_TOKEN in the environment.
    """

    repository: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="OWNER/NAME")]
    """Repository; it is made if it is not there."""
    weights: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Weights directory: `best` of a training run, or what `python -m convert` wrote."""
    private: Annotated[bool, FlagCreatePairsOff] = False
    """Make the repository a private one."""


def main(prog: str, argv: Sequence[str]) -> None:
    """Upload the weights."""
    config = parse(Config, argv, prog)
    pushed = push(config.weights, config.repository, private=config.private)
    print(f"wrote {', '.join(pushed.files)} to {pushed.url}, under {pushed.origin}'s names")
    print(f'load_pretrained("hf:{config.repository}") reads them')
