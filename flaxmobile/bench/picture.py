"""Latency against multiply-adds, as a picture."""

import itertools
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flaxmobile.files import written_at_once

_MARKERS = "os^Dv*"
"""Markers of the batch sizes, in their order."""
_GAP = 0.035
"""Least distance of two names, as a share of the picture's width."""


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
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="multiply-adds per image (millions)",
        ylabel="milliseconds per image",
    )
    axes.margins(0.08)
    for axis in (axes.xaxis, axes.yaxis):
        _number(axis)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    _name_networks(axes, points)
    return figure


def _name_networks(axes: Any, points: Iterable[Point]) -> None:
    """Write names above the picture, with a line to the highest point of each."""
    ordered = sorted(points, key=lambda point: point.macs)
    highest = {
        p.name: max(ordered, key=lambda q: (q.name == p.name, q.milliseconds)) for p in ordered
    }
    ends = [(each.macs / 1e6, each.milliseconds) for each in highest.values()]
    low, high = (math.log(bound) for bound in axes.get_xlim())
    places = _spread([(math.log(x) - low) / (high - low) for x, _ in ends])
    line = {"arrowstyle": "-", "color": "0.7", "linewidth": 0.7, "shrinkB": 3, "relpos": (0, 0)}
    for name, end, place in zip(highest, ends, places, strict=True):
        axes.annotate(
            name,
            end,
            (place, 1.02),
            textcoords="axes fraction",
            rotation=50,
            rotation_mode="anchor",
            arrowprops=line,
        )


def _spread(places: Sequence[float]) -> list[float]:
    """Move ascending places apart where names would lie on each other, within 0 to 1."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + _GAP) if moved else place)
    limit = 1.0
    for number in reversed(range(len(moved))):
        moved[number] = min(moved[number], limit)
        limit = moved[number] - _GAP
    return moved


def _number(axis: Any) -> None:
    """Write plain numbers at 1, 2 and 5 times each power of ten, instead of the powers alone."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FormatStrFormatter("%g"))
    axis.set_minor_locator(NullLocator())
