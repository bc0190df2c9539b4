"""Latency against multiply-adds, as a picture."""

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flaxmobile.files import written_at_once

_MARKERS = "os^Dv*"
"""Of the batch sizes, in their order."""


class Point(NamedTuple):
    """A network's place in the picture: multiply-adds and milliseconds per image."""

    name: str
    candidate: str
    batch_size: int
    macs: int
    milliseconds: float


def plot(path: Path, points: Sequence[Point]) -> None:
    """Draw latency against multiply-adds: why is a network with fewer of them not faster?

    Args:
      path: file to write, .png, .pdf or .svg.
      points: one for each network, candidate and batch size.
    """
    with written_at_once(path) as draft:
        draw(points).savefig(draft, format=path.suffix.lower()[1:], dpi=150)


def draw(points: Sequence[Point]) -> Any:
    """Draw the picture of `plot`: a matplotlib figure."""
    from matplotlib.figure import Figure  # slow to import

    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots()
    candidates = list(dict.fromkeys(point.candidate for point in points))
    sizes = list(dict.fromkeys(point.batch_size for point in points))
    for candidate, size in itertools.product(candidates, sizes):
        own = [p for p in points if (p.candidate, p.batch_size) == (candidate, size)]
        if own:
            axes.scatter(
                [p.macs / 1e6 for p in own],
                [p.milliseconds for p in own],
                color=f"C{candidates.index(candidate)}",
                marker=_MARKERS[sizes.index(size) % len(_MARKERS)],
                label=f"{candidate}, batch {size}",
            )
    _name_networks(axes, points)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="multiply-adds per image (millions)",
        ylabel="milliseconds per image",
    )
    axes.margins(0.15, 0.2)
    for axis in (axes.xaxis, axes.yaxis):
        _number(axis)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    return figure


def _name_networks(axes: Any, points: Iterable[Point]) -> None:
    """Write names alternately above and below their points: a family lies side by side."""
    ordered = sorted(points, key=lambda point: point.macs)
    for number, name in enumerate(dict.fromkeys(point.name for point in ordered)):
        ends = sorted(p.milliseconds for p in ordered if p.name == name)
        macs = max(p.macs for p in ordered if p.name == name)
        above = number % 2 == 0
        axes.annotate(
            name,
            (macs / 1e6, ends[-1 if above else 0]),
            (3, 5) if above else (-3, -5),
            textcoords="offset points",
            rotation=35,
            horizontalalignment="left" if above else "right",
            verticalalignment="bottom" if above else "top",
        )


def _number(axis: Any) -> None:
    """Write plain numbers at 1, 2 and 5 times each power of ten, instead of the powers alone."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FormatStrFormatter("%g"))
    axis.set_minor_locator(NullLocator())
