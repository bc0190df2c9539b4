"""Steps, validations and checkpoints of a run."""

import dataclasses
from contextlib import closing
from itertools import islice
from pathlib import Path

import jax

from flaxmobile.errors import InputError
from flaxmobile.weights import save_weights
from train import hosts
from train.checkpoints import Checkpoints, Progress
from train.data.pipeline import Batches, train_batches
from train.evaluation import evaluate
from train.profiling import Profile
from train.reporting import Reporter, StepLines
from train.setup import Run
from train.signals import StopSignals
from train.step import TrainState


class Trainer:
    """The steps, validations and checkpoints of a run, starting from a state."""

    def __init__(
        self,
        run: Run,
        output: Path,
        checkpoints: Checkpoints,
        reporter: Reporter,
        signals: StopSignals,
        state: TrainState,
        progress: Progress,
    ) -> None:
        """Put the state on the devices; the first call of a step compiles it."""
        self.run, self.output, self.signals = run, output, signals
        self.checkpoints, self.reporter = checkpoints, reporter
        self.state, self.progress = run.parallel.put_state(state), progress
        self.key = run.parallel.put_key(run.config.seed)
        self.train_step = run.parallel.train_step(run.objective, run.teacher)
        self.eval_step = run.parallel.eval_step(run.objective)
        self.lines = StepLines(run, reporter, checkpoints, lambda: self.state)
        self.unreadable: set[int] = set()
        self.agreement = hosts.Agreement()
        self.stopped = False

    def fit(self) -> None:
        """Train to the last step, until it no longer improves, or until a signal."""
        run, progress = self.run, self.progress
        put = run.parallel.put_batch
        self.lines.start_clock(progress.step)
        # The run may have ended between the last step of an epoch and its validation.
        if run.ends_epoch(progress.step) and progress.validated < progress.step:
            self.validate()
        profile = Profile(self.output / "profile", run.config.profile, self.reporter.say)
        with closing(self.batches()) as batches, profile:
            for batch in islice(batches, run.total_steps - progress.step):
                if self.has_stopped_improving():
                    break
                images, labels = put(batch["image"]), jax.tree.map(put, batch["label"])
                with profile.step(progress.step + 1):
                    self.state, metrics = self.train_step(self.state, images, labels, self.key)
                profile.end_step(metrics)
                self.signals.nothing_to_lose = False
                self.unreadable.update(batch["unreadable"][batch["unreadable"] >= 0].tolist())
                self.lines.flush()  # reports the step before while this one runs
                progress.step += 1
                self.lines.add(progress.step, metrics)
                self.stopped = self.agreement.reached(self.signals.received is not None)
                if run.ends_epoch(progress.step) and not self.stopped:
                    self.validate()
                elif self.stopped or progress.step % run.config.checkpoint_every == 0:
                    self.save()
                if self.stopped:
                    break
        self.checkpoints.wait()

    def has_stopped_improving(self) -> bool:
        """Tell whether the best validation is more than --patience epochs ago."""
        patience, progress = self.run.config.patience, self.progress
        if patience is None or progress.best_step is None:
            return False
        return progress.validated - progress.best_step >= patience * self.run.steps_per_epoch

    def batches(self) -> Batches:
        """Read batches from this step on; save the state if an unreadable file stops the run."""
        run, config = self.run, self.run.config
        batches = train_batches(
            run.dataset,
            reader=run.train_reader,
            batch_size=config.batch_size,
            seed=config.seed,
            repeats=config.repeated_augmentation,
            start=self.progress.step,
            workers=run.workers,
            skip_unreadable=config.on_bad_image == "skip",
            share=hosts.share(),
        )
        try:
            yield from batches
        except InputError:
            self.save()
            raise

    def validate(self) -> None:
        """Save the state, evaluate it, and save its weights if they are the best."""
        run, progress, source = self.run, self.progress, self.run.dataset.validation
        self.save()
        self.checkpoints.wait()
        self.signals.nothing_to_lose = True
        judged = evaluate(run, self.eval_step, self.state.variables, source)
        self.signals.nothing_to_lose = False
        result = judged.means()
        epoch = run.epoch(progress.step)
        self.reporter.write(
            {"step": progress.step, "epoch": epoch, "split": "validation", **result}
        )
        progress.validated = progress.step
        if progress.best is None or quality(result, run.config.best_by) > progress.best:
            progress.best = quality(result, run.config.best_by)
            progress.best_step = progress.step
            self.save_best(result)
        self.reporter.plot()
        skipped = judged.unreadable + len(self.unreadable)
        metric = run.config.metric
        self.reporter.say(
            f"epoch {epoch}: validation loss {result['loss']:.4f}, {metric} "
            f"{result[metric]:.4f} (best {run.config.best_by} {abs(progress.best[0]):.4f})"
            + (f"; {skipped} unreadable images skipped" if skipped else "")
        )
        if "accuracy" in result:
            self.lines.compare(result["accuracy"])
        self.lines.start_clock(progress.step)

    def save(self) -> None:
        """Begin to write a checkpoint."""
        self.lines.flush()
        self.checkpoints.save(self.run.parallel.get(self.state), self.progress)

    def save_best(self, result: dict[str, float]) -> None:
        """Write the weights directory of the best validation result so far."""
        run = self.run
        if not hosts.is_first():
            return
        metric = run.config.metric
        origin = {"step": self.progress.step, f"validation_{metric}": result[metric]}
        metadata = dataclasses.replace(run.metadata, source={**run.metadata.source, **origin})
        variables = run.parallel.get(self.state.variables)
        best = self.output / "best"
        save_weights(best, run.config.network, run.options, variables, metadata, overwrite=True)


def quality(result: dict[str, float], by: str) -> tuple[float, float]:
    """Order validation results by a metric, then by loss. Higher is better."""
    return -result[by] if by == "loss" else result[by], -result["loss"]
