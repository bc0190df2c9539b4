"""What a run tells: a progress line, metrics.jsonl, TensorBoard and curves.png."""

import json
import math
import sys
from pathlib import Path
from typing import Any, Self

from tqdm.auto import tqdm

Line = dict[str, Any]


class Reporter:
    """Writes the reports of a run into its directory."""

    def __init__(self, directory: Path, progress: dict[str, Any], total_steps: int) -> None:
        """Begin where the run stands; what an interrupted part wrote beyond that is dropped.

        Args:
          directory: of the run.
          progress: "step", the number of steps taken, and "validated", the last step evaluated.
          total_steps: of the whole run.
        """
        from tensorboardX import SummaryWriter  # slow to import, and only runs need it

        self.directory = directory
        self.metrics = directory / "metrics.jsonl"
        first_step = progress["step"]
        _truncate(self.metrics, first_step, progress["validated"])
        self._file = self.metrics.open("a")
        self._board = SummaryWriter(
            str(directory / "tensorboard"), purge_step=first_step + 1 if first_step else None
        )
        self._bar = tqdm(
            total=total_steps,
            initial=first_step,
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
        """Leave the progress bar as it stands; what is said then comes below."""
        self._bar.close()

    def say(self, text: str) -> None:
        """Print a line above the progress bar."""
        self._bar.write(text, file=sys.stdout)
        sys.stdout.flush()

    def plot(self) -> None:
        """Draw curves.png from metrics.jsonl."""
        plot_curves(self.metrics, self.directory / "curves.png")

    def __enter__(self) -> Self:
        """Use as a context."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files."""
        self._bar.close()
        self._file.close()
        self._board.close()


def read_metrics(path: Path) -> list[Line]:
    """Read metrics.jsonl; a last line that was cut off by a crash is left out."""
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
    from matplotlib.figure import Figure  # slow to import, and only this needs it

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
    draft = picture.with_name(f".{picture.name}.tmp")
    figure.savefig(draft, format="png", dpi=120)
    draft.replace(picture)


def _truncate(path: Path, last_step: int, validated: int) -> None:
    """Drop the lines that the resumed run will write again."""
    last = {"train": last_step, "validation": validated, "test": -1}
    lines = [line for line in read_metrics(path) if line["step"] <= last[line["split"]]]
    draft = path.with_name(f".{path.name}.tmp")
    draft.write_text("".join(json.dumps(line) + "\n" for line in lines))
    draft.replace(path)


def is_finite(line: Line) -> bool:
    """Whether every number of a line is finite."""
    return all(math.isfinite(value) for value in line.values() if isinstance(value, float))
