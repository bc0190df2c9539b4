"""Pictures of a segmenter's results: confusion.png and mistakes.png."""

from pathlib import Path

import numpy as np

from train.data.examples import EvalReader
from train.data.records import Record, Source
from train.pictures import plot_confusion, plot_masks
from train.tasks.pixels import PixelVerdicts, intersection_over_union
from train.tasks.results import read_again

_MOST_MISTAKES = 8


def draw_results(
    output: Path,
    names: tuple[str, ...],
    reader: EvalReader,
    source: Source,
    verdicts: PixelVerdicts,
) -> None:
    """Draw which classes' pixels are taken for which, and the worst images."""
    plot_confusion(verdicts.counts(), names, output / "confusion.png", unit="pixels")
    if rows := _worst(reader, source, verdicts):
        plot_masks(rows, names, output / "mistakes.png")


def _worst(
    reader: EvalReader, source: Source, verdicts: PixelVerdicts
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, str]]:
    """Read the images with the least mean intersection over union, with both masks and it."""
    unions = intersection_over_union(verdicts.confusion)
    known = np.flatnonzero(verdicts.confusion.sum((1, 2)))
    quality = np.nanmean(unions[known], axis=1)
    worst = known[np.argsort(quality, kind="stable")][:_MOST_MISTAKES]

    def read(record: Record) -> tuple[np.ndarray, str]:
        return reader(record).image, Path(record.name).name

    return [
        (image, *verdicts.thumbnails[place], f"{name}: {np.nanmean(unions[place]):.1%}")
        for place, (image, name) in read_again(source, verdicts, worst.tolist(), read)
    ]
