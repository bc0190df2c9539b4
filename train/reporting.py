"""Reports of a run: what it prints, metrics.jsonl, TensorBoard and curves.png."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import numpy as np
from tqdm.auto import tqdm

from flaxmobile.errors import InputError, shorten
from flaxmobile.trees import PyTree, named_leaves
from train import hosts
from train.checkpoints import Checkpoints, Progress
from train.metrics import Line, is_finite, read_metrics, truncate
from train.pictures import plot_curves
from train.progress import open_progress
from train.setup import Run
from train.step import Metrics, TrainState
from train.tensorboard import EventFile
from train.tracking import Tracking


class Reporter:
    """The reports in the directory of a run, and the progress bar."""

    def __init__(
        self,
        directory: Path,
        progress: Progress,
        total_steps: int,
        tracking: Tracking | None = None,
        metric: str = "accuracy",
    ) -> None:
        """Begin at the run's position, and drop what an interrupted part wrote after it.

        Args:
          directory: the directory of the run.
          progress: its position.
          total_steps: steps of the whole run.
          tracking: where else the numbers go.
          metric: drawn beside the loss.
        """
        self.metric = metric
        self.directory = directory
        self.metrics = directory / "metrics.jsonl"
        damaged = truncate(self.metrics, progress)
        self._file = self.metrics.open("a")
        self._board = EventFile(directory / "tensorboard", progress.step + 1)
        self._bar = open_progress(total_steps, progress.step)
        self._tracking = tracking
        if damaged:
            self.say(f"damaged lines of {self.metrics.name} that are left out: {damaged}")

    def step(self, line: Line) -> None:
        """Show a finished training step: loss, accuracy, images per second, time left."""
        speed = line.get("images_per_second")
        self._bar.set_postfix_str(
            f"epoch {line['epoch']} loss {line['loss']:.3f}"
            + (f" accuracy {line['accuracy']:.3f}" if "accuracy" in line else "")
            + (f" {speed:.0f} images/s" if speed else ""),
            refresh=False,
        )
        self._bar.update()

    def write(self, line: Line) -> None:
        """Append to metrics.jsonl and TensorBoard."""
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        numbers = {
            f"{line['split']}/{name}": value
            for name, value in line.items()
            if name not in ("step", "split", "epoch")
        }
        self._board.add(line["step"], numbers)
        if self._tracking:
            self._tracking.add(line["step"], numbers)

    def end_steps(self) -> None:
        """Close the progress bar; later lines appear below it."""
        self._bar.close()

    def say(self, text: str) -> None:
        """Print a line above the progress bar."""
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()

    def plot(self) -> None:
        """Draw curves.png from metrics.jsonl."""
        lines, picture = read_metrics(self.metrics), self.directory / "curves.png"
        plot_curves(lines, self.metric, picture, self.directory.resolve().name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        self._file.close()
        self._board.close()
        if self._tracking:
            self._tracking.close()


class _Silent(Reporter):
    """The reporter of a process that is not the first: it reports nothing."""

    def __init__(self) -> None:
        pass

    def step(self, line: Line) -> None:
        pass

    def write(self, line: Line) -> None:
        pass

    def end_steps(self) -> None:
        pass

    def say(self, text: str) -> None:
        pass

    def plot(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


def open_reporter(run: Run, directory: Path, progress: Progress) -> Reporter:
    """Open the reports of a run in its first process; the others report nothing."""
    if not hosts.is_first():
        return _Silent()
    config = run.config
    tracking = Tracking(config.track, directory, config.to_json()) if config.track else None
    return Reporter(directory, progress, run.total_steps, tracking, config.metric)


class StepLines:
    """The train lines of a run. A step's metrics are read while the next step runs.

    Attributes:
      pending: the step that is not reported yet, and its metrics on the devices.
    """

    def __init__(
        self,
        run: Run,
        reporter: Reporter,
        checkpoints: Checkpoints,
        state: Callable[[], TrainState],
    ) -> None:
        """Report to `reporter`; an error names the complete checkpoints and the bad tensors."""
        self._run, self._reporter, self._checkpoints = run, reporter, checkpoints
        self._state = state
        self.pending: tuple[int, Metrics] | None = None
        self._accuracies: list[float] = []
        self._skipped = 0
        self._warned = False
        self.start_clock(0)

    def start_clock(self, step: int) -> None:
        """Measure images per second from this step on."""
        self._clock, self._clock_step = time.perf_counter(), step

    def add(self, step: int, metrics: Metrics) -> None:
        """Take the metrics of a step, still on the devices."""
        self.pending = step, metrics

    def flush(self) -> None:
        """Report the step added last, if it is not reported yet.

        Raises:
          InputError: its loss is not finite, and it may not be skipped.
        """
        if self.pending is None:
            return
        (step, metrics), self.pending = self.pending, None
        line: Line = {"step": step, "epoch": self._run.epoch(step), "split": "train"}
        line |= {name: float(value) for name, value in self._run.parallel.get(metrics).items()}
        if line.pop("skipped", 0) or not is_finite(line):
            self._skip(step, line["loss"])
            return
        self._skipped = 0
        self._accuracies.append(line.get("accuracy", 0.0))
        config = self._run.config
        if step % config.log_every == 0 or step == self._run.total_steps:
            images = (step - self._clock_step) * config.batch_size
            line["images_per_second"] = round(images / (time.perf_counter() - self._clock), 1)
            self.start_clock(step)
            self._reporter.write(line)
        self._reporter.step(line)

    def compare(self, accuracy: float) -> None:
        """Warn once where validation falls far short of the epoch's training."""
        trained = sum(self._accuracies) / max(1, len(self._accuracies))
        self._accuracies = []
        if self._warned or trained < 0.5 or accuracy > trained / 2:
            return
        self._warned = True
        momentum = self._run.objective.model.norm_momentum
        lag = ""
        if not self._run.objective.norm_warmup:
            lag = f", or the running statistics lag behind (momentum {momentum:g}: --norm-warmup)"
        self._reporter.say(
            f"warning: accuracy is {trained:.3f} in training but {accuracy:.3f} in validation: the "
            f"images of the two differ, there are few of them{lag}"
        )

    def _skip(self, step: int, loss: float) -> None:
        self._skipped += 1
        most = self._run.config.skip_nonfinite
        if self._skipped <= most:
            self._reporter.say(
                f"step {step} is skipped: its loss is {loss} or a gradient is not finite "
                f"({self._skipped} of {most} in a row)"
            )
            return
        bad = _first_nonfinite(self._run.parallel.get(self._state().params))
        raise InputError(
            f"the loss is {loss} at step {step}: training stopped. {bad}Good checkpoints in "
            f"{self._checkpoints.directory}: steps {self._checkpoints.list_steps()}. Try a lower "
            "--learning-rate, a longer --warmup-epochs or --clip"
        )


def _first_nonfinite(params: PyTree) -> str:
    """Name the first parameters that are not finite, in a sentence."""
    names = [name for name, leaf in named_leaves(params).items() if not np.isfinite(leaf).all()]
    return f"Not finite: {shorten(names, 3)}. " if names else "All parameters are finite. "
