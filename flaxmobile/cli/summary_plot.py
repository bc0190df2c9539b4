"""A picture of a summary: where parameters and multiply-adds are, block by block."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from flaxmobile.cli.plot import pictures
from flaxmobile.summary import Row, Summary

_COLOURS = {
    "conv 1x1": "#2f6f9f",
    "depthwise": "#e4a33b",
    "other convolutions": "#8fb3cc",
    "dense": "#b5533c",
    "norm": "#9a9a9a",
}


def plot_summary(path: Path, summary: Summary) -> None:
    """Draw the share of each block in parameters and multiply-adds, by the kind of layer.

    Args:
      path: file to write, which appears complete or not at all.
      summary: counts of a network.
    """
    blocks = list(dict.fromkeys(_block(row) for row in summary.rows))
    height = 1.2 + 0.2 * len(blocks)
    with pictures(path, 1, (9.0, height), width_ratios=(1, 1)) as ((left, right),):
        _draw(left, summary, blocks, "parameters", lambda row: row.params)
        _draw(right, summary, blocks, "multiply-adds", lambda row: row.macs)
        right.set_yticklabels([])
        for axes in (left, right):
            axes.legend(frameon=False, loc="best", fontsize=8)


def _draw(
    axes: Any, summary: Summary, blocks: list[str], name: str, count: Callable[[Row], int]
) -> None:
    total = max(1, sum(map(count, summary.rows)))
    start = [0.0] * len(blocks)
    for kind, colour in _COLOURS.items():
        shares = [0.0] * len(blocks)
        for row in summary.rows:
            if _kind(row) == kind:
                shares[blocks.index(_block(row))] += 100 * count(row) / total
        if any(shares):
            label = f"{kind}, {sum(shares):.1f} %"
            axes.barh(range(len(blocks)), shares, left=start, color=colour, label=label)
        start = [before + share for before, share in zip(start, shares, strict=True)]
    axes.set_yticks(range(len(blocks)), blocks, fontsize=7)
    axes.set_ylim(len(blocks) - 0.5, -0.5)
    axes.set(xlabel="percent of all", title=f"{total:,} {name}")
    axes.spines[["top", "right"]].set_visible(False)


def _block(row: Row) -> str:
    first, _, rest = row.path.partition("/")
    return f"{first}/{rest.partition('/')[0]}" if first == "backbone" else first


def _kind(row: Row) -> str:
    if row.kind in _COLOURS:
        return row.kind
    return "depthwise" if row.kind.startswith("depthwise") else "other convolutions"
