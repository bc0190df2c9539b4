"""A picture of predictions: each image beside a bar chart of its classes."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flaxmobile.files import written_at_once
from flaxmobile.preprocessing import open_image

Bars = Sequence[tuple[str, float]]
"""Class names and their probabilities, 0 to 1, or other numbers; the best first."""

_INCHES_WIDE = 9.0
_THUMBNAIL = 448  # pixels: twice what is seen, and a bound to memory
_LONGEST_NAME = 62  # characters that fit over the bars


def plot_predictions(
    path: Path, images: Sequence[Path], results: Sequence[Bars], form: str = ".1%"
) -> None:
    """Draw the picture, its numbers in a format; the file appears complete or not at all."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    slots = max(5, *map(len, results))
    width, height = _INCHES_WIDE, 0.6 + 0.4 * slots
    with mpl.rc_context({"text.parse_math": False, "font.size": 9}):
        figure = Figure(figsize=(width, height * len(images)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(len(images), 2, squeeze=False, width_ratios=(1, 2))
        for (left, right), image, bars in zip(axes, images, results, strict=True):
            _draw_image(left, image)
            _draw_bars(right, bars, slots, form)
        with warnings.catch_warnings(), written_at_once(path) as draft:
            warnings.filterwarnings("ignore", "Glyph .* missing")  # a box is drawn instead
            figure.savefig(draft, format=path.suffix.lower()[1:], dpi=120)


def _draw_image(axes: Any, path: Path) -> None:
    image = open_image(path)
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    axes.imshow(image)
    axes.set_anchor("N")
    axes.set_axis_off()
    axes.set_title(_shorten(path.name, 34))


def _draw_bars(axes: Any, bars: Bars, slots: int, form: str) -> None:
    """A bar for each class with its name above: a name beside its bar would squeeze the bars."""
    longest = 1.0 if form.endswith("%") else max(abs(number) for _, number in bars) or 1.0
    axes.set_xlim(0, longest)
    axes.set_ylim(slots - 0.5, -0.75)  # the best class at the top
    axes.set_axis_off()
    for place, (name, number) in enumerate(bars):
        axes.barh(place, longest, height=0.3, color="#e8ecf0")
        axes.barh(place, max(0.0, number), height=0.3, color="#2f6f9f" if place == 0 else "#8fb3cc")
        label = _shorten(name, _LONGEST_NAME)
        axes.text(0, place - 0.24, label, va="bottom", in_layout=False)
        axes.text(longest, place - 0.24, f"{number:{form}}", va="bottom", ha="right")


def _shorten(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
