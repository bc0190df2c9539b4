"""What a run says of itself when it begins."""

from collections.abc import Sequence

import jax

from train.setup import Run
from train.step import TrainState


def describe(run: Run, output: str, state: TrainState, first_step: int) -> str:
    """Describe a run: network, data and what is unusual about it, length and directory."""
    params = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    data, size = run.dataset, run.preprocessing.side
    preferred = data.preset.side if data.preset else size
    raised = ""
    if size == run.objective.model.min_image_size > preferred:
        raised = f" (raised from {preferred}: {run.config.model} takes no less)"
    if run.config.train_size:
        raised += f", trained at {run.config.train_size}×{run.config.train_size}"
    test = "" if data.test is None else f", {len(data.test)} test"
    devices = jax.devices()
    head = f"{run.config.head} on " if run.config.head else ""
    width = f" alpha {run.options['alpha']:g}" if "alpha" in run.options else ""
    notes = "".join(f"{note}\n" for note in data.notes)
    begin = f"continues after step {first_step} of" if first_step else "trains for"
    return (
        f"{head}{run.config.model}{width}, {params:,} parameters, on "
        f"{run.config.dataset} at {size}×{size}{raised}: {len(data.train)} training, "
        f"{len(data.validation)} validation{test} images of {_count(data.class_names)}\n"
        f"{notes}{begin} {run.total_steps} steps of {run.config.batch_size} images on "
        f"{len(devices)} {devices[0].device_kind} device(s) with {run.config.parallel}, into "
        f"{output}"
    )


def _count(class_names: Sequence[str]) -> str:
    """Count classes; the background, which the network knows as one, is none to the user."""
    background = class_names[0].strip("_") == "background"
    count = len(class_names) - background
    return f"{count} class{'es' * (count != 1)}{' and the background' * background}"
