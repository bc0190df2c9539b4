"""Evaluation of weights on a split."""

import dataclasses
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np

from flaxmobile.errors import InputError
from train import hosts
from train.data.pipeline import eval_batches
from train.data.records import Source
from train.parallel import EvalStep
from train.reporting import Line
from train.setup import Run

_MANY_IMAGES = 2000
"""Below this, threads are done before worker processes have started, which takes 3 s and more."""


@dataclasses.dataclass(frozen=True)
class Verdicts:
    """Judgement of each readable image of a split, in its order.

    Attributes:
      index: place of the image in the split.
      label: its class; 0 and 1 for each class where an image may have several labels.
      predicted: the class with the highest logit.
      rank: number of other classes that are not below the label's, 0 for a hit.
      loss: the loss of the image.
      classes: number of classes.
      unreadable: number of images that were skipped.
      scores: logits [n, classes] where images may have several labels; otherwise None.
    """

    index: np.ndarray
    label: np.ndarray
    predicted: np.ndarray
    rank: np.ndarray
    loss: np.ndarray
    classes: int
    unreadable: int
    scores: np.ndarray | None = None

    def means(self) -> dict[str, float]:
        """Average accuracy, loss and, where there are more than 5 classes, top5.

        Where images may have several labels, "accuracy" counts those whose highest class is one of
        them, and "map" is the mean of the classes' average precisions.
        """
        result = {
            "accuracy": float((self.rank < 1).mean()),
            "loss": float(self.loss.mean(dtype=np.float64)),
        }
        if self.classes > 5:
            result["top5"] = float((self.rank < 5).mean())
        if self.scores is not None:
            result["map"] = float(np.nanmean(self.precisions()))
        return result

    def precisions(self) -> np.ndarray:
        """Return the average precision of each class, [classes]; NaN for one without images."""
        from sklearn.metrics import average_precision_score  # takes a second to import

        assert self.scores is not None
        return np.array(
            [
                average_precision_score(label, score) if label.any() else np.nan
                for label, score in zip(self.label.T, self.scores.T, strict=True)
            ]
        )

    def confusion(self) -> np.ndarray:
        """Count images by label (rows) and prediction (columns): int [classes, classes]."""
        counts = np.zeros((self.classes, self.classes), np.int64)
        np.add.at(counts, (self.label, self.predicted), 1)
        return counts


def evaluate(run: Run, eval_step: EvalStep, variables: Any, source: Source) -> Verdicts:
    """Evaluate variables on a split.

    Args:
      run: gives preprocessing, batch size and workers.
      eval_step: compiled for its objective.
      variables: on the devices.
      source: the split.

    Raises:
      InputError: an unreadable image that is not to be skipped, or no readable image.
    """
    batches = eval_batches(
        source,
        preprocessing=run.preprocessing,
        batch_size=run.config.batch_size,
        workers=run.workers if len(source) >= _MANY_IMAGES else 0,
        skip_unreadable=run.config.on_bad_image == "skip",
        share=hosts.share(),
        flags=len(run.dataset.class_names) if run.dataset.multi_label else None,
    )
    with closing(batches):
        judged = list(_judge(run, eval_step, variables, batches))
    columns = {name: np.concatenate([part[name] for part in judged]) for name in judged[0]}
    columns = hosts.gather(columns, len(judged))
    unreadable = int((columns.pop("unreadable") >= 0).sum())
    counted = columns.pop("weight") > 0
    if not counted.any():
        raise InputError(f"{run.config.dataset}: no image to evaluate could be read")
    return Verdicts(
        index=np.flatnonzero(counted),
        **{name: column[counted] for name, column in columns.items()},
        classes=len(run.dataset.class_names),
        unreadable=unreadable,
    )


def _judge(
    run: Run, eval_step: EvalStep, variables: Any, batches: Any
) -> Iterator[dict[str, np.ndarray]]:
    put, get = run.parallel.put_batch, run.parallel.get_batch
    for batch in batches:
        judged = eval_step(variables, put(batch["image"]), put(batch["label"]))
        given = {name: batch[name] for name in ("label", "weight", "unreadable")}
        yield given | {name: get(values) for name, values in judged.items()}


def report_test(run: Run, eval_step: EvalStep, variables: Any) -> tuple[Line, Verdicts]:
    """Evaluate host variables on the test split, or without one on the validation split.

    Prints the result.

    Returns:
      The result with its split: "test", or "best" for the validation images, and the judgements.
    """
    test = run.dataset.test
    split, source = ("validation", run.dataset.validation) if test is None else ("test", test)
    verdicts = evaluate(run, eval_step, run.parallel.put_state(variables), source)
    result = verdicts.means()
    numbers = ", ".join(f"{name} {value:.4f}" for name, value in result.items())
    if hosts.is_first():
        print(f"{split} ({len(source)} images): {numbers}", flush=True)
    return {"split": "best" if test is None else "test", **result}, verdicts
