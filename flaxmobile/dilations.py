"""Dilation patterns of IC-Conv networks, and the files that hold them.

A pattern gives (vertical, horizontal) of each output channel of a layer. Its file is JSON:

    {"format": 1, "dilations": {"stage2_block1/filter": [[1, 1], [1, 3], …], …}}

The authors' pattern zoo (github.com/yifan123/IC-Conv) counts channels instead, for each layer in
the order of the network, by what is added to a dilation of 1:

    [{"(0, 0)": 42, "(0, 1)": 5, …}, …]
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flaxmobile.errors import InputError

Dilations = tuple[tuple[int, int], ...]
"""(vertical, horizontal) of each output channel."""
Pattern = dict[str, list[list[int]]]
"""Path of a layer -> [vertical, horizontal] of each output channel."""
Counts = list[dict[str, int]]
"""A pattern as the authors' zoo has it."""

MAX_DILATION = 6
"""Largest dilation of the authors' patterns, whose supernet has kernels of 13×13; the paper's is
4."""
_FORMAT = 1
_ACCEPTED = (
    f'{{"format": {_FORMAT}, "dilations": {{layer: [[vertical, horizontal], …]}}}}, or a list of '
    '{"(vertical, horizontal)": channels} from the authors\' pattern zoo'
)


def check_dilations(layer: str, dilations: Any, channels: int) -> None:
    """Raise InputError unless there is a pair of accepted dilations for each output channel."""
    if not isinstance(dilations, list | tuple) or len(dilations) != channels:
        count = len(dilations) if isinstance(dilations, list | tuple) else repr(dilations)
        raise InputError(
            f"the dilation pattern has {count} for {layer}; accepted: {channels} entries, "
            "[vertical, horizontal] of each output channel"
        )
    for channel, pair in enumerate(dilations):
        is_pair = isinstance(pair, list | tuple) and len(pair) == 2
        if not is_pair or any(type(d) is not int or not 1 <= d <= MAX_DILATION for d in pair):
            raise InputError(
                f"the dilation pattern has {pair!r} for channel {channel} of {layer}; accepted: "
                f"[vertical, horizontal], whole numbers from 1 to {MAX_DILATION}"
            )


def from_counts(
    counts: Sequence[Mapping[str, int]], layers: Sequence[str], hint: str = ""
) -> dict[str, Dilations]:
    """Turn a pattern of the authors' zoo into dilations of channels, which lie in its order.

    Args:
      counts: for each layer, "(vertical, horizontal)" over a dilation of 1 -> channels.
      layers: paths of the network's layers, in order.
      hint: what the error for another number of layers ends with.

    Raises:
      InputError: another number of layers, or an entry that is no count.
    """
    if len(counts) != len(layers):
        raise InputError(
            f"the dilation pattern has {len(counts)} layers, the network has {len(layers)}{hint}"
        )
    return {
        layer: tuple(pair for item in each.items() for pair in _channels(layer, *item))
        for layer, each in zip(layers, counts, strict=True)
    }


def _channels(layer: str, key: str, count: Any) -> Dilations:
    """Repeat a dilation for as many channels as have it."""
    found = re.fullmatch(r"\((\d), (\d)\)", key)
    if found is None or type(count) is not int or count < 0:
        raise InputError(
            f"the dilation pattern has {key!r}: {count!r} for {layer}; accepted: "
            '"(vertical, horizontal)" of one digit each, and the number of channels'
        )
    return ((1 + int(found[1]), 1 + int(found[2])),) * count


def save_dilations(path: str | os.PathLike[str], pattern: Mapping[str, Any]) -> None:
    """Write a pattern as JSON.

    Raises:
      InputError: the file cannot be written.
    """
    text = json.dumps({"format": _FORMAT, "dilations": dict(pattern)})
    try:
        Path(path).write_text(text + "\n")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from None


def load_dilations(path: str | os.PathLike[str]) -> Pattern | Counts:
    """Read a pattern that `save_dilations` wrote, or one of the authors' zoo.

    `create_model("ic_conv", pattern=…)` takes both, and checks them against the network.

    Raises:
      InputError: no such file, not JSON, or not a pattern.
    """
    try:
        found = json.loads(Path(path).read_text())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}); accepted: {_ACCEPTED}") from None
    if isinstance(found, list) and found and all(isinstance(each, dict) for each in found):
        return found
    if not isinstance(found, dict) or not isinstance(found.get("dilations"), dict):
        raise InputError(f"{path} is not a dilation pattern; accepted: {_ACCEPTED}")
    if found.get("format") != _FORMAT:
        raise InputError(
            f"{path} has format {found.get('format')!r}; this version reads format {_FORMAT}"
        )
    pattern: Pattern = found["dilations"]
    return pattern
