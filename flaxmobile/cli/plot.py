"""A picture of predictions: each image beside a bar chart of its classes."""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
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
    slots = max(5, *map(len, results))
    size = (_INCHES_WIDE, 0.6 + 0.4 * slots)
    with pictures(path, len(images), size, width_ratios=(1, 2)) as rows:
        for (left, right), image, bars in zip(rows, images, results, strict=True):
            draw_image(left, image)
            _draw_bars(right, bars, slots, form)


@contextlib.contextmanager
def pictures(
    path: Path, count: int, size: tuple[float, float], width_ratios: Sequence[float] = (1,)
) -> Iterator[Any]:
    """Give axes [count, columns] to draw on, and write them to a file, complete or not at all.

    Args:
      path: of the file.
      count: number of rows, one for each image.
      size: width and height of a row in inches.
      width_ratios: of the columns.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width, height = size
    with mpl.rc_context({"text.parse_math": False, "font.size": 9}):
        figure = Figure(figsize=(width, height * count), layout="constrained")
        FigureCanvasAgg(figure)
        columns = len(width_ratios)
        yield figure.subplots(count, columns, squeeze=False, width_ratios=width_ratios)
        with warnings.catch_warnings(), written_at_once(path) as draft:
            warnings.filterwarnings("ignore", "Glyph .* missing")  # a box is drawn instead
            figure.savefig(draft, format=path.suffix.lower()[1:], dpi=120)


def draw_image(axes: Any, path: Path, longest: int = _THUMBNAIL) -> float:
    """Draw an image file with at most so many pixels a side, and return how it was scaled."""
    image = open_image(path)
    before = image.width
    image.thumbnail((longest, longest))
    axes.imshow(image)
    axes.set_anchor("N")
    axes.set_axis_off()
    axes.set_title(_shorten(path.name, 34))
    return image.width / before


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
