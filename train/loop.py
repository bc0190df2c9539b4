"""The training loop, readable from top to bottom."""

import dataclasses
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from itertools import islice
from pathlib import Path

import jax

from flaxmobile.allocator import keep_freed_memory, run_in_calling_thread
from flaxmobile.errors import InputError
from flaxmobile.weights import load_weights, save_weights
from train import hosts
from train.checkpoints import Checkpoints, Progress
from train.config import Config
from train.data.pipeline import Batches, train_batches
from train.description import describe
from train.evaluation import evaluate, report_test
from train.mirror import Mirror, open_mirror
from train.output import check_output, data_changes, make_output, owning, update_output
from train.profiling import Profile
from train.reporting import Reporter, StepLines, open_reporter
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
    hosts.check_same(config)
    config, mirror = open_mirror(config)
    run = prepare(config)
    if config.eval_only and run.weights:
        _, variables = run.weights.load()
        report_test(run, run.parallel.eval_step(run.objective), variables)
        return 0
    output, exists, state = open_output(run, mirror)
    where = mirror.url or str(output)
    advice = f"stopped; continue with --output {where} --resume"
    with (
        owning(output) if hosts.is_first() else nullcontext(),
        StopSignals(advice, mirror.finish) as signals,
        mirror,
        Checkpoints(output / "checkpoints", config.keep, own=mirror.own) as checkpoints,
    ):
        progress = Progress()
        notes: list[str] = []
        if restored := checkpoints.restore(abstract_state(run.objective)):
            state, progress, notes = restored
        _check_progress(run, output, progress.step)
        if exists and hosts.is_first():
            update_output(run, output)
        state = state or initial_state(run)
        with open_reporter(run, output, progress) as reporter:
            if config.resume and not exists:
                notes.append(f"there is no run in {where} to continue: a new one begins")
            notes.append(describe(run, where, state, progress.step))
            for change in data_changes(run, output) if exists else ():
                notes.append(f"the data has changed since the run began: {change}")
            for note in notes:
                reporter.say(note)
            trainer = Trainer(run, output, checkpoints, reporter, signals, state, progress)
            with explaining_out_of_memory(config):
                trainer.fit()
            reporter.end_steps()
            if trainer.stopped:
                if not signals.leaving:
                    reporter.say(advice)
                return signals.exit_status
            signals.nothing_to_lose = True
            hosts.wait_for_all()
            if hosts.is_first() or not mirror.own:
                _, variables = load_weights(output / "best")
            else:
                variables = run.parallel.get(trainer.state.variables)  # of the same shapes
            if mirror.own:
                variables = hosts.first_has(variables)
            result, judged = report_test(run, trainer.eval_step, variables)
            step = progress.step
            reporter.write({"step": step, "epoch": run.epoch(step), **result})
            reporter.plot()
            source = run.dataset.validation if run.dataset.test is None else run.dataset.test
            if hosts.is_first():
                run.task.write_results(output, run.dataset, run.preprocessing, source, judged)
    return 0


def open_output(run: Run, mirror: Mirror) -> tuple[Path, bool, TrainState | None]:
    """Find or make the directory of the run, in the first process.

    Returns:
      The directory, whether its run is continued, and otherwise the state to begin with.
    """
    output, exists = check_output(run) if hosts.is_first() else (Path(), False)
    exists = hosts.first_says(exists)
    # Damaged weights are refused before anything is written.
    state = None if exists else initial_state(run)
    mirror.claim()
    if not exists and hosts.is_first():
        output = make_output(run, output)
    first = Path(hosts.first_says(str(output)))
    return Path(str(run.config.output)) if mirror.own else first, exists, state


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


def _check_progress(run: Run, output: Path, step: int) -> None:
    if hosts.first_says(step) != step:
        raise InputError("the processes have read different checkpoints: start all of them again")
    if step > run.total_steps:
        raise InputError(
            f"the run in {output} has already taken {step} steps, more than "
            f"{run.total_steps}: leave out --steps and --epochs, or raise them"
        )
    if step == 0 and (output / "best").exists():
        raise InputError(
            f"the run in {output} has its best weights but no checkpoint, and cannot be continued: "
            f"begin another one with --init-from {output / 'best'} and a new --output"
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
