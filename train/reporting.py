"""Reports of a run: what it prints, metrics.jsonl, TensorBoard and curves.png."""

import json
import math
import sys
import time
from pathlib import Path
from typing import Any, Self

import jax
from tqdm.auto import tqdm

from flaxmobile.errors import InputError
from flaxmobile.files import written_at_once
from train.checkpoints import Checkpoints, Progress
from train.setup import Run
from train.step import Metrics, TrainState

Line = dict[str, Any]
"""One line of metrics.jsonl."""


def describe(run: Run, output: Path, state: TrainState, first_step: int) -> str:
    """Describe a run: network, data and what is unusual about it, length and directory."""
    params = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    data, size = run.dataset, run.preprocessing.image_size
    preferred = data.preset.image_size if data.preset else size
    raised = ""
    if size == run.objective.model.min_image_size > preferred:
        raised = f" (raised from {preferred}: {run.config.model} takes no less)"
    if run.config.train_size:
        raised += f", trained at {run.config.train_size}×{run.config.train_size}"
    test = "" if data.test is None else f", {len(data.test)} test"
    devices = jax.devices()
    width = f" alpha {run.options['alpha']:g}" if "alpha" in run.options else ""
    notes = "".join(f"{note}\n" for note in data.notes)
    begin = f"continues after step {first_step} of" if first_step else "trains for"
    return (
        f"{run.config.model}{width}, {params:,} parameters, on "
        f"{run.config.dataset} at {size}×{size}{raised}: {len(data.train)} training, "
        f"{len(data.validation)} validation{test} images of {len(data.class_names)} classes\n"
        f"{notes}{begin} {run.total_steps} steps of {run.config.batch_size} images on "
        f"{len(devices)} {devices[0].device_kind} device(s) with {run.config.parallel}, into "
        f"{output}"
    )


class Reporter:
    """The reports in the directory of a run, and the progress bar."""

    def __init__(self, directory: Path, progress: Progress, total_steps: int) -> None:
        """Begin at the run's position, and drop what an interrupted part wrote after it.

        Args:
          directory: the directory of the run.
          progress: its position.
          total_steps: steps of the whole run.
        """
        from tensorboardX import SummaryWriter  # slow to import, and only runs need it

        self.directory = directory
        self.metrics = directory / "metrics.jsonl"
        _truncate(self.metrics, progress)
        self._file = self.metrics.open("a")
        self._board = SummaryWriter(
            str(directory / "tensorboard"), purge_step=progress.step + 1 if progress.step else None
        )
        self._bar = tqdm(
            total=total_steps,
            initial=progress.step,
            unit="step",
            mininterval=0.5 if sys.stderr.isatty() else 15,
            dynamic_ncols=True,
        )

    def step(self, line: Line) -> None:
        """Show a finished training step: loss, accuracy, images per second, time left."""
        speed = line.get("images_per_second")
        self._bar.set_postfix_str(
            f"epoch {line['epoch']} loss {line['loss']:.3f} accuracy {line['accuracy']:.3f}"
            + (f" {speed:.0f} images/s" if speed else ""),
            refresh=False,
        )
        self._bar.update()

    def write(self, line: Line) -> None:
        """Append to metrics.jsonl and TensorBoard."""
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        for name, value in line.items():
            if name not in ("step", "split", "epoch"):
                self._board.add_scalar(f"{line['split']}/{name}", value, line["step"])

    def end_steps(self) -> None:
        """Close the progress bar; later lines appear below it."""
        self._bar.close()

    def say(self, text: str) -> None:
        """Print a line above the progress bar."""
        self._bar.write(text, file=sys.stdout)
        sys.stdout.flush()

    def plot(self) -> None:
        """Draw curves.png from metrics.jsonl."""
        plot_curves(self.metrics, self.directory / "curves.png")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        self._file.close()
        self._board.close()


class StepLines:
    """The train lines of a run. A step's metrics are read while the next step runs."""

    def __init__(self, run: Run, reporter: Reporter, checkpoints: Checkpoints) -> None:
        """Report to `reporter`; an error names the complete checkpoints."""
        self._run, self._reporter, self._checkpoints = run, reporter, checkpoints
        self._pending: tuple[int, Metrics] | None = None
        self.start_clock(0)

    def start_clock(self, step: int) -> None:
        """Measure images per second from this step on."""
        self._clock, self._clock_step = time.perf_counter(), step

    def add(self, step: int, metrics: Metrics) -> None:
        """Take the metrics of a step, still on the devices."""
        self._pending = step, metrics

    def flush(self) -> None:
        """Report the step added last, if it is not reported yet.

        Raises:
          InputError: its loss is not finite.
        """
        if self._pending is None:
            return
        (step, metrics), self._pending = self._pending, None
        line: Line = {"step": step, "epoch": self._run.epoch(step), "split": "train"}
        line |= {name: float(value) for name, value in self._run.parallel.get(metrics).items()}
        if not is_finite(line):
            raise InputError(
                f"the loss is {line['loss']} at step {step}: training stopped. Good checkpoints in "
                f"{self._checkpoints.directory}: steps {self._checkpoints.list_steps()}. Try a "
                "lower --learning-rate or a longer --warmup-epochs"
            )
        config = self._run.config
        if step % config.log_every == 0 or step == self._run.total_steps:
            images = (step - self._clock_step) * config.batch_size
            line["images_per_second"] = round(images / (time.perf_counter() - self._clock), 1)
            self.start_clock(step)
            self._reporter.write(line)
        self._reporter.step(line)


def read_metrics(path: Path) -> list[Line]:
    """Read metrics.jsonl up to a line that a crash has cut off."""
    if not path.is_file():
        return []
    lines = []
    for text in path.read_text().splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines


def plot_curves(metrics: Path, picture: Path) -> None:
    """Draw loss and accuracy over steps for each split."""
    from matplotlib.figure import Figure  # slow to import

    lines = read_metrics(metrics)
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for split, style, size in (("train", "-", 1), ("validation", "o-", 3), ("test", "*", 10)):
            points = [(line["step"], line[name]) for line in lines if line["split"] == split]
            if points:
                xs, ys = zip(*points, strict=True)
                axes.plot(
                    xs, ys, style, linewidth=1, markersize=size, label=f"{split} {ys[-1]:.3f}"
                )
        axes.set(xlabel="step", ylabel=name)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    with written_at_once(picture) as draft:
        figure.savefig(draft, format="png", dpi=120)


def _truncate(path: Path, progress: Progress) -> None:
    """Drop the lines that the resumed run will write again."""
    last = {"train": progress.step, "validation": progress.validated, "test": -1}
    lines = [line for line in read_metrics(path) if line["step"] <= last[line["split"]]]
    with written_at_once(path) as draft:
        draft.write_text("".join(json.dumps(line) + "\n" for line in lines))


def is_finite(line: Line) -> bool:
    """Tell whether every number of a line is finite."""
    return all(math.isfinite(value) for value in line.values() if isinstance(value, float))
