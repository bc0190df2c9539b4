"""A picture of predictions: each image beside a bar chart of its classes."""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from flaxmobile.files import written_at_once
from flaxmobile.prediction import Frame, as_image

Bars = Sequence[tuple[str, float]]
"""Class names and their probabilities, 0 to 1, or other numbers; the best first."""

_COLOURS = "tab20"  # of matplotlib; class 0, the background, has none
_BACKGROUND = 0
_OPACITY = 0.6
_BEST, _OTHER = "#2f6f9f", "#8fb3cc"  # bars
_INCHES_WIDE = 9.0
_THUMBNAIL = 448  # pixels: twice what is seen, and a bound to memory
_LONGEST_NAME = 62  # characters that fit over the bars


class Overlay(NamedTuple):
    """A mask to draw over an image.

    Attributes:
      mask: class of each pixel [h, w], not larger than is drawn.
      classes: those that have bars, in their order.
    """

    mask: np.ndarray
    classes: Sequence[int]

    @classmethod
    def of(cls, mask: np.ndarray, classes: Sequence[int]) -> "Overlay":
        """Shrink a mask [h, w] to what is drawn of its image."""
        image = Image.fromarray(mask)
        image.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.NEAREST)
        return cls(np.asarray(image), classes)


def plot_predictions(
    path: Path,
    images: Sequence[Path | Frame],
    results: Sequence[Bars],
    form: str = ".1%",
    overlays: Sequence[Overlay] = (),
    seen: Sequence[Image.Image] = (),
) -> None:
    """Draw the picture; the file appears complete or not at all.

    Args:
      path: file to write.
      images: files, or images in memory.
      results: bars of each image.
      form: of their numbers.
      overlays: a mask for each image, whose colours its bars have; none for a classifier's.
      seen: what to draw in place of each image, such as its heatmap.
    """
    slots = max(5, *map(len, results))
    size = (_INCHES_WIDE, 0.6 + 0.4 * slots)
    with pictures(path, len(images), size, width_ratios=(1, 2)) as rows:
        for number, (image, bars) in enumerate(zip(images, results, strict=True)):
            left, right = rows[number]
            draw_image(left, image, shown=seen[number] if seen else None)
            colours = [_BEST, *[_OTHER] * (len(bars) - 1)]
            if overlays:
                _draw_mask(left, overlays[number].mask)
                colours = [_colour(each) for each in overlays[number].classes]
            _draw_bars(right, bars, colours, slots, form)


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


def draw_image(
    axes: Any, source: Path | Frame, longest: int = _THUMBNAIL, shown: Image.Image | None = None
) -> float:
    """Draw an image, its longer side at most `longest` pixels, and return the scale.

    With `shown`, that is drawn under the image's name.
    """
    image = (as_image(source) if shown is None else shown).copy()
    before = image.width
    image.thumbnail((longest, longest))
    axes.imshow(image)
    axes.set_anchor("N")
    axes.set_axis_off()
    axes.set_title(_shorten(source.name, 34))
    return image.width / before


def _draw_mask(axes: Any, mask: np.ndarray) -> None:
    """Tint the pixels of every class but the background."""
    tint = np.zeros((*mask.shape, 4))
    for index in np.unique(mask[mask != _BACKGROUND]):
        tint[mask == index] = (*_colour(index)[:3], _OPACITY)
    axes.imshow(tint, interpolation="nearest")


def _colour(index: int) -> Any:
    import matplotlib as mpl

    colours = mpl.colormaps[_COLOURS]
    return _OTHER if index == _BACKGROUND else colours((index - 1) % colours.N)


def _draw_bars(axes: Any, bars: Bars, colours: Sequence[Any], slots: int, form: str) -> None:
    """A bar for each class with its name above: a name beside its bar would squeeze the bars."""
    longest = 1.0 if form.endswith("%") else max(abs(number) for _, number in bars) or 1.0
    axes.set_xlim(0, longest)
    axes.set_ylim(slots - 0.5, -0.75)  # the best class at the top
    axes.set_axis_off()
    for place, (name, number) in enumerate(bars):
        axes.barh(place, longest, height=0.3, color="#e8ecf0")
        axes.barh(place, max(0.0, number), height=0.3, color=colours[place])
        label = _shorten(name, _LONGEST_NAME)
        axes.text(0, place - 0.24, label, va="bottom", in_layout=False)
        axes.text(longest, place - 0.24, f"{number:{form}}", va="bottom", ha="right")


def _shorten(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
