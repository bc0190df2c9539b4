"""Evaluation of weights on a split."""

from collections import defaultdict
from contextlib import closing
from typing import Any

from flaxmobile.errors import InputError
from train.data.pipeline import eval_batches
from train.data.records import Source
from train.parallel import EvalStep
from train.reporting import Line
from train.setup import Run

_MANY_IMAGES = 2000
"""Below this, threads are done before worker processes have started, which takes 3 s and more."""


def evaluate(
    run: Run, eval_step: EvalStep, variables: Any, source: Source
) -> tuple[dict[str, float], int]:
    """Evaluate variables on a split.

    Args:
      run: gives preprocessing, batch size and workers.
      eval_step: compiled for its objective.
      variables: on the devices.
      source: the split.

    Returns:
      Means over the split of loss, accuracy and top5, and how many images were unreadable.

    Raises:
      InputError: an unreadable image that is not to be skipped, or no readable image.
    """
    totals: dict[str, float] = defaultdict(float)
    unreadable = 0
    batches = eval_batches(
        source,
        preprocessing=run.preprocessing,
        batch_size=run.config.batch_size,
        workers=run.workers if len(source) >= _MANY_IMAGES else 0,
        skip_unreadable=run.config.on_bad_image == "skip",
    )
    put = run.parallel.put_batch
    with closing(batches):
        for batch in batches:
            sums = eval_step(
                variables, put(batch["image"]), put(batch["label"]), put(batch["weight"])
            )
            for name, value in run.parallel.get(sums).items():
                totals[name] += float(value)
            unreadable += int((batch["unreadable"] >= 0).sum())
    images = totals.pop("images")
    if images == 0:
        raise InputError(f"{run.config.dataset}: no image to evaluate could be read")
    return {name: total / images for name, total in totals.items()}, unreadable


def report_test(run: Run, eval_step: EvalStep, variables: Any) -> Line:
    """Evaluate host variables on the test split, or without one on the validation split.

    Prints the result and returns it with the name of the split.
    """
    test = run.dataset.test
    split, source = ("validation", run.dataset.validation) if test is None else ("test", test)
    result, _ = evaluate(run, eval_step, run.parallel.put_state(variables), source)
    numbers = ", ".join(f"{name} {value:.4f}" for name, value in result.items())
    print(f"{split} ({len(source)} images): {numbers}", flush=True)
    return {"split": split, **result}
