"""Pictures of a classifier's results: confusion.png and mistakes.png."""

from pathlib import Path

import numpy as np

from flaxmobile.images import read_image
from flaxmobile.preprocessing import Preprocessing
from train.data.records import Record, Source
from train.pictures import plot_confusion, plot_mistakes
from train.tasks.results import read_again
from train.tasks.verdicts import Verdicts

_MOST_MISTAKES = 20


def draw_results(
    output: Path,
    names: tuple[str, ...],
    preprocessing: Preprocessing,
    source: Source,
    verdicts: Verdicts,
) -> None:
    """Draw which classes are taken for which, and the worst mistakes."""
    if verdicts.scores is None:
        plot_confusion(verdicts.confusion(), names, output / "confusion.png")
    picture = output / "mistakes.png"
    if mistakes := _worst(preprocessing, source, verdicts, names):
        plot_mistakes(mistakes, picture)
    else:
        picture.unlink(missing_ok=True)


def _worst(
    preprocessing: Preprocessing, source: Source, verdicts: Verdicts, names: tuple[str, ...]
) -> list[tuple[np.ndarray, str]]:
    """Read the mistakes with the largest loss, each with its label and prediction."""
    wrong = np.flatnonzero(verdicts.rank > 0)
    worst = wrong[np.argsort(-verdicts.loss[wrong], kind="stable")][:_MOST_MISTAKES]

    def read(record: Record) -> np.ndarray:
        return np.asarray(preprocessing.crop(read_image(record.encoded, record.name)))

    mistakes = []
    for place, image in read_again(source, verdicts, worst.tolist(), read):
        label, predicted = verdicts.label[place], names[verdicts.predicted[place]]
        own = (
            names[label] if label.ndim == 0 else ", ".join(np.array(names)[label > 0]) or "nothing"
        )
        mistakes.append((image, f"{own}, taken for {predicted}"))
    return mistakes
