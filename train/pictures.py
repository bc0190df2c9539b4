"""Pictures of a run: curves, the confusion matrix and the worst mistakes, masks and boxes too."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flaxmobile.files import written_at_once

_NUMBERED = 15
"""Most classes whose confusion matrix has its numbers written into it."""

_NAMED = 40
"""Most classes whose names are written along the confusion matrix."""


_CURVES = (("train", "-", 1), ("validation", "o-", 3), ("test", "*", 10))
"""Split of metrics.jsonl, style and size of its points; the best weights have their own mark."""


def plot_curves(
    lines: Sequence[dict[str, Any]], metric: str, picture: Path, title: str = ""
) -> None:
    """Draw the loss, a metric and the learning rate over steps and epochs, and mark the best epoch.

    Args:
      lines: of metrics.jsonl.
      metric: of which more is better.
      picture: a PNG file.
      title: above all.
    """
    _save(draw_curves(lines, metric, title), picture)


def draw_curves(lines: Sequence[dict[str, Any]], metric: str, title: str = "") -> Any:
    """Draw the picture of `plot_curves`: a matplotlib figure."""
    from matplotlib.figure import Figure  # slow to import

    figure = Figure(figsize=(12, 4), layout="constrained")
    figure.suptitle(title, size=10, parse_math=False)
    panels = figure.subplots(1, 3, width_ratios=(3, 3, 2))
    for axes, name in zip(panels, ("loss", metric, "learning_rate"), strict=True):
        for split, style, size in _CURVES:
            points = [(e["step"], e[name]) for e in lines if e["split"] == split and name in e]
            if points:
                xs, ys = zip(*points, strict=True)
                label = f"{split} {ys[-1]:.3f}" if name != "learning_rate" else None
                axes.plot(xs, ys, style, linewidth=1, markersize=size, label=label)
        if name == metric:
            _mark_best(axes, lines, metric)
        axes.set(xlabel="step", ylabel=name.replace("_", " "))
        axes.grid(alpha=0.3)
        _add_epochs(axes, lines)
        if axes.lines and name != "learning_rate":
            axes.legend()
    return figure


def _mark_best(axes: Any, lines: Sequence[dict[str, Any]], metric: str) -> None:
    validated = [line for line in lines if line["split"] == "validation" and metric in line]
    if validated:
        best = max(validated, key=lambda line: line[metric])  # the first, as `best/` keeps it
        label = f"best {best[metric]:.3f} (epoch {best['epoch']})"
        style = {"markersize": 12, "markerfacecolor": "none", "color": "black"}
        axes.plot(best["step"], best[metric], "o", label=label, **style)


def _add_epochs(axes: Any, lines: Sequence[dict[str, Any]]) -> None:
    """Number the epochs along the upper edge; those that were validated tell their length."""
    from matplotlib.ticker import MaxNLocator

    lengths = [line["step"] / line["epoch"] for line in lines if line["split"] == "validation"]
    if lengths and max(lengths) > 0:
        length = max(lengths)  # the last epoch may be cut short
        epochs = axes.secondary_xaxis(
            "top", functions=(lambda step: step / length, lambda epoch: epoch * length)
        )
        epochs.xaxis.set_major_locator(MaxNLocator(integer=True))
        epochs.set_xlabel("epoch", size=8)
        epochs.tick_params(labelsize=8)


def plot_confusion(
    counts: np.ndarray, names: Sequence[str], picture: Path, unit: str = "images"
) -> None:
    """Draw a confusion matrix.

    Args:
      counts: images by label (rows) and prediction (columns).
      names: of the classes.
      picture: a PNG file.
      unit: what is counted; of other things than images, shares are written in percent.
    """
    from matplotlib.figure import Figure

    side = min(12.0, max(4.0, 1.5 + 0.35 * len(names)))
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    shares = counts / np.maximum(1, counts.sum(1, keepdims=True))
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label=f"share of the label's {unit}", shrink=0.8)
    axes.set(xlabel="prediction", ylabel="label")
    if len(names) <= _NAMED:
        places = range(len(names))
        axes.set_xticks(places, names, rotation=90 if max(map(len, names)) > 2 else 0)
        axes.set_yticks(places, names)
    if len(names) <= _NUMBERED:
        for (row, column), number in np.ndenumerate(counts):
            if number:
                text = number if unit == "images" else f"{100 * shares[row, column]:.0f}"
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, text, ha="center", va="center", color=colour, size=8)
    _save(figure, picture)


def plot_mistakes(mistakes: Sequence[tuple[np.ndarray, str]], picture: Path) -> None:
    """Draw images in a grid, each under a line of text.

    Args:
      mistakes: uint8 [h, w, 3] and its text, each.
      picture: a PNG file.
    """
    from matplotlib.figure import Figure

    columns = min(5, len(mistakes))
    rows = -(-len(mistakes) // columns)
    figure = Figure(figsize=(2.2 * columns, 2.5 * rows), layout="constrained")
    for axes in figure.subplots(rows, columns, squeeze=False).flat:
        axes.axis("off")
    for axes, (image, text) in zip(figure.axes, mistakes, strict=False):
        axes.imshow(image)
        axes.set_title(text, size=8)
    _save(figure, picture)


def plot_masks(
    rows: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray, str]],
    names: Sequence[str],
    picture: Path,
) -> None:
    """Draw images beside their masks: what they are labelled and what was predicted.

    Args:
      rows: uint8 image [h, w, 3], its label and the prediction [rows, columns], and a text, each.
      names: of the classes; those of a picture are in its legend. Pixels of none are white.
      picture: a PNG file.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    palette = mpl.colormaps["gist_ncar"](np.linspace(0.05, 0.95, len(names)))[:, :3]
    palette = np.concatenate([palette, np.ones((256 - len(names), 3))])
    palette[0] = 0.2
    figure = Figure(figsize=(7.5, 2.5 * len(rows) + 0.5), layout="constrained")
    grid = figure.subplots(len(rows), 3, squeeze=False)
    for (left, middle, right), (image, label, predicted, text) in zip(grid, rows, strict=True):
        shown = (image, palette[label], palette[np.where(label < len(names), predicted, 255)])
        for axes, pixels in zip((left, middle, right), shown, strict=True):
            axes.imshow(pixels)
            axes.axis("off")
        left.set_title(text, size=8)
    grid[0, 1].set_title("label", size=8)
    grid[0, 2].set_title("prediction", size=8)
    present = np.unique(np.concatenate([mask.ravel() for row in rows for mask in row[1:3]]))
    patches = [Patch(color=palette[k], label=names[k]) for k in present if k < len(names)]
    figure.legend(handles=patches, loc="outside lower center", ncols=6, fontsize=8)
    _save(figure, picture)


class DrawnBox(NamedTuple):
    """A box in an image.

    Attributes:
      sides: (xmin, ymin, xmax, ymax) in pixels.
      label: number of its class, for the colour.
      text: in its upper left corner.
    """

    sides: np.ndarray
    label: int
    text: str


class BoxedImage(NamedTuple):
    """An image with boxes.

    Attributes:
      image: uint8 [h, w, 3].
      objects: what is there.
      found: what a detector found.
      text: above the image.
    """

    image: np.ndarray
    objects: Sequence[DrawnBox]
    found: Sequence[DrawnBox]
    text: str


def plot_boxes(rows: Sequence[BoxedImage], picture: Path) -> None:
    """Draw each image twice, with the objects that are there and with those that were found.

    Args:
      rows: at least one.
      picture: a PNG file.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    colours = mpl.colormaps["tab10"].colors  # type: ignore[attr-defined]
    columns = min(2, len(rows))
    lines = -(-len(rows) // columns)
    figure = Figure(figsize=(6.5 * columns, 3.3 * lines), layout="constrained")
    grid = figure.subplots(lines, 2 * columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for (left, right), row in zip(grid.reshape(-1, 2), rows, strict=False):
        left.set_title(row.text, size=8)
        right.set_title("found", size=8)
        for axes, boxes in ((left, row.objects), (right, row.found)):
            height, width, _ = row.image.shape
            axes.imshow(row.image, extent=(0, width, height, 0))  # boxes reach from edge to edge
            for (xmin, ymin, xmax, ymax), label, text in boxes:
                colour = colours[label % len(colours)]
                side = {"edgecolor": colour, "facecolor": "none", "linewidth": 1.5}
                axes.add_patch(Rectangle((xmin, ymin), xmax - xmin, ymax - ymin, **side))
                style = {
                    "color": "white",
                    "backgroundcolor": (*colour, 0.8),
                    "size": 6,
                    "parse_math": False,
                }
                axes.text(xmin, ymin, text, va="top", clip_on=True, in_layout=False, **style)
    _save(figure, picture)


def _save(figure: Any, picture: Path) -> None:
    with written_at_once(picture) as draft:
        figure.savefig(draft, format="png", dpi=120)
