"""A run from its settings to its last line."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import jax

from flaxmobile.allocator import keep_freed_memory, run_in_calling_thread
from flaxmobile.errors import InputError
from flaxmobile.weights import load_weights
from train import hosts
from train.checkpoints import Checkpoints, Progress
from train.config import Config
from train.description import describe
from train.evaluation import report_test
from train.mirror import Mirror, open_mirror
from train.output import check_output, data_changes, make_output, owning, update_output
from train.reporting import open_reporter
from train.setup import Run, initial_state, prepare
from train.signals import StopSignals
from train.step import TrainState, abstract_state
from train.tasks.results import write_test
from train.trainer import Trainer


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
        state, progress, notes = begin(run, output, exists, state, checkpoints)
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
            report_best(trainer, mirror.own)
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


def begin(
    run: Run, output: Path, exists: bool, state: TrainState | None, checkpoints: Checkpoints
) -> tuple[TrainState, Progress, list[str]]:
    """Restore the newest complete checkpoint, or begin with the given state.

    Returns:
      The state, how far the run is, and notes about checkpoints that were left out.
    """
    progress = Progress()
    notes: list[str] = []
    if restored := checkpoints.restore(abstract_state(run.objective)):
        state, progress, notes = restored
    _check_progress(run, output, progress.step)
    if exists and hosts.is_first():
        update_output(run, output)
    return state or initial_state(run), progress, notes


def report_best(trainer: Trainer, own_directories: bool) -> None:
    """Evaluate the best weights at the end of a run, and write what they give.

    Args:
      trainer: has taken its last step.
      own_directories: whether each process has a directory of its own, the first the best weights.
    """
    run, output, reporter = trainer.run, trainer.output, trainer.reporter
    if hosts.is_first() or not own_directories:
        _, variables = load_weights(output / "best")
    else:
        variables = run.parallel.get(trainer.state.variables)  # of the same shapes
    if own_directories:
        variables = hosts.first_has(variables)
    result, judged = report_test(run, trainer.eval_step, variables)
    step = trainer.progress.step
    reporter.write({"step": step, "epoch": run.epoch(step), **result})
    reporter.plot()
    split, source = run.dataset.judged
    if hosts.is_first():
        write_test(output / "test.json", split, judged, run.dataset.class_names)
        run.task.draw(output, run.dataset, run.preprocessing, source, judged)


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
