"""The training loop, readable from top to bottom."""

import dataclasses
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path

import jax

from flaxmobile.allocator import keep_freed_memory, run_in_calling_thread
from flaxmobile.errors import InputError
from flaxmobile.weights import load_weights, save_weights
from train.checkpoints import Checkpoints, Progress, quality
from train.config import Config
from train.data.pipeline import Batches, train_batches
from train.evaluation import evaluate, report_test
from train.output import check_output, data_changes, make_output
from train.reporting import Reporter, StepLines, describe
from train.setup import Run, initial_state, prepare
from train.signals import StopSignals
from train.step import TrainState, abstract_state


def train(config: Config) -> int:
    """Train or evaluate as the settings say, and return the exit status.

    Raises:
      InputError: settings, data or files that do not fit, or a loss that is no longer finite.
    """
    run_in_calling_thread()  # before the next line starts JAX's backend
    if jax.default_backend() == "cpu":
        keep_freed_memory()
    run = prepare(config)
    if config.eval_only and run.weights:
        _, variables = run.weights.load()
        report_test(run, run.parallel.eval_step(run.objective), variables)
        return 0
    output, exists = check_output(run)
    state = None
    if not exists:
        state = initial_state(run)  # damaged weights are refused before anything is written
        make_output(run, output)
    with StopSignals() as signals, Checkpoints(output / "checkpoints") as checkpoints:
        progress = Progress()
        if restored := checkpoints.restore(abstract_state(run.objective)):
            state, progress = restored
            _check_length(run, output, progress.step)
        state = state or initial_state(run)
        with Reporter(output, progress, run.total_steps) as reporter:
            if config.resume and not exists:
                reporter.say(f"there is no run in {output} to continue: a new one begins")
            reporter.say(describe(run, output, state, progress.step))
            for change in data_changes(run, output) if exists else ():
                reporter.say(f"the data has changed since the run began: {change}")
            trainer = Trainer(run, output, checkpoints, reporter, signals, state, progress)
            with explaining_out_of_memory(config):
                trainer.fit()
            reporter.end_steps()
            if signals.received:
                reporter.say(f"stopped; continue with --output {output} --resume")
                return signals.exit_status
            _, variables = load_weights(output / "best")
            result = report_test(run, trainer.eval_step, variables)
            step = run.total_steps
            reporter.write({"step": step, "epoch": run.epoch(step), **result})
            reporter.plot()
    return 0


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
        self.train_step = run.parallel.train_step(run.objective)
        self.eval_step = run.parallel.eval_step(run.objective)
        self.lines = StepLines(run, reporter, checkpoints)
        self.unreadable: set[int] = set()

    def fit(self) -> None:
        """Train to the last step, or until a signal."""
        run, progress = self.run, self.progress
        put, key = run.parallel.put_batch, jax.random.key(run.config.seed)
        self.lines.start_clock(progress.step)
        # A signal may have stopped the run between a step and its validation.
        due = run.ends_epoch(progress.step) and progress.validated < progress.step
        if due and not self.signals.received:
            self.validate()
        if self.signals.received:
            self.save()
            return
        with closing(self.batches()) as batches:
            for batch in islice(batches, run.total_steps - progress.step):
                images, labels = put(batch["image"]), put(batch["label"])
                self.state, metrics = self.train_step(self.state, images, labels, key)
                self.unreadable.update(batch["unreadable"][batch["unreadable"] >= 0].tolist())
                self.lines.flush()  # reports the step before while this one runs
                progress.step += 1
                self.lines.add(progress.step, metrics)
                if run.ends_epoch(progress.step) and not self.signals.received:
                    self.validate()
                elif self.signals.received or progress.step % run.config.checkpoint_every == 0:
                    self.save()
                if self.signals.received:
                    break
        self.checkpoints.wait()

    def batches(self) -> Batches:
        """Read batches from this step on; save the state if an unreadable file stops the run."""
        run, config = self.run, self.run.config
        batches = train_batches(
            run.dataset,
            preprocessing=run.train_preprocessing,
            batch_size=config.batch_size,
            seed=config.seed,
            repeats=config.repeated_augmentation,
            start=self.progress.step,
            workers=run.workers,
            skip_unreadable=config.on_bad_image == "skip",
        )
        try:
            yield from batches
        except InputError:
            self.save()
            raise

    def validate(self) -> None:
        """Evaluate at the end of an epoch; save the state, and the weights if they are the best."""
        self.lines.flush()
        run, progress, source = self.run, self.progress, self.run.dataset.validation
        result, skipped = evaluate(run, self.eval_step, self.state.variables, source)
        epoch = run.epoch(progress.step)
        self.reporter.write(
            {"step": progress.step, "epoch": epoch, "split": "validation", **result}
        )
        progress.validated = progress.step
        if progress.best is None or quality(result) > progress.best:
            progress.best = quality(result)
            self.save_best(result["accuracy"])
        self.save(result)
        self.reporter.plot()
        skipped += len(self.unreadable)
        self.reporter.say(
            f"epoch {epoch}: validation loss {result['loss']:.4f}, accuracy "
            f"{result['accuracy']:.4f} (best {progress.best[0]:.4f})"
            + (f"; {skipped} unreadable images skipped" if skipped else "")
        )
        self.lines.start_clock(progress.step)

    def save(self, result: dict[str, float] | None = None) -> None:
        """Begin to write a checkpoint, with the result of its validation if there was one."""
        self.lines.flush()
        self.checkpoints.save(self.run.parallel.get(self.state), self.progress, result)

    def save_best(self, accuracy: float) -> None:
        """Write the weights directory of the best validation result so far."""
        run = self.run
        origin = {"step": self.progress.step, "validation_accuracy": accuracy}
        metadata = dataclasses.replace(run.metadata, source={**run.metadata.source, **origin})
        variables = run.parallel.get(self.state.variables)
        best = self.output / "best"
        save_weights(best, run.config.model, run.options, variables, metadata, overwrite=True)


def _check_length(run: Run, output: Path, step: int) -> None:
    if step > run.total_steps:
        raise InputError(
            f"the run in {output} has already taken {step} steps, more than "
            f"{run.total_steps}: leave out --steps and --epochs, or raise them"
        )


@contextmanager
def explaining_out_of_memory(config: Config) -> Iterator[None]:
    """Turn running out of a device's memory into an InputError that says how to use less."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise InputError(
            f"out of memory with {config.batch_size} images in a batch: take a smaller "
            "--batch-size or --image-size, or add --remat"
        ) from error
