"""Evaluation of weights on a split."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import jax
import numpy as np

from flaxmobile.errors import InputError
from train import hosts
from train.data.pipeline import Batches, eval_batches
from train.data.records import Source
from train.metrics import Line
from train.parallel import EvalStep
from train.setup import Run
from train.tasks.task import Result

_MANY_IMAGES = 2000
"""Below this, threads are done before worker processes have started, which takes 3 s and more."""


def evaluate(run: Run, eval_step: EvalStep, variables: Any, source: Source) -> Result:
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
        reader=run.task.eval_reader(run.dataset, run.preprocessing, source),
        batch_size=run.config.batch_size,
        workers=run.workers if len(source) >= _MANY_IMAGES else 0,
        skip_unreadable=run.config.on_bad_image == "skip",
        share=hosts.share(),
    )
    with closing(batches):
        judged = list(_judge(run, eval_step, variables, batches))
    columns = jax.tree.map(lambda *parts: np.concatenate(parts), *judged)
    columns = hosts.gather(columns, len(judged))
    unreadable = int((columns.pop("unreadable") >= 0).sum())
    counted = columns.pop("weight") > 0
    if not counted.any():
        raise InputError(f"{run.config.dataset}: no image to evaluate could be read")
    columns = jax.tree.map(lambda column: column[counted], columns)
    columns["unreadable"] = unreadable
    return run.task.collect(run.dataset, source, np.flatnonzero(counted), columns)


def _judge(
    run: Run, eval_step: EvalStep, variables: Any, batches: Batches
) -> Iterator[dict[str, Any]]:
    put, get = run.parallel.put_batch, run.parallel.get_batch
    for batch in batches:
        judged = eval_step(variables, put(batch["image"]), jax.tree.map(put, batch["label"]))
        given: dict[str, Any] = {"weight": batch["weight"], "unreadable": batch["unreadable"]}
        if run.task.keeps_labels:
            given["label"] = batch["label"]
        yield given | {name: get(values) for name, values in judged.items()}


def report_test(run: Run, eval_step: EvalStep, variables: Any) -> tuple[Line, Result]:
    """Evaluate host variables on the test split, or without one on the validation split.

    Prints the result.

    Returns:
      The result with its split: "test", or "best" for the validation images, and the judgements.
    """
    split, source = run.dataset.judged
    judged = evaluate(run, eval_step, run.parallel.put_state(variables), source)
    result = judged.means()
    numbers = ", ".join(f"{name} {value:.4f}" for name, value in result.items())
    if hosts.is_first():
        print(f"{split} ({len(source)} images): {numbers}", flush=True)
    return {"split": "best" if split == "validation" else split, **result}, judged
