"""The training loop, readable from top to bottom."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import jax

from flaxmobile.allocator import keep_freed_memory, run_in_the_caller
from flaxmobile.errors import InputError
from flaxmobile.weights import load_weights, save_weights
from train.checkpoints import Checkpoints, quality
from train.config import Config
from train.data.pipeline import eval_batches, train_batches
from train.data.records import Source
from train.output import check_output, make_output
from train.parallel import EvalStep
from train.reporting import Line, Reporter, is_finite
from train.setup import Run, abstract_state, describe, initial_variables, prepare
from train.signals import StopSignals
from train.step import Metrics, TrainState, create_state

_MANY_IMAGES = 2000
"""Below this, threads evaluate a split before worker processes have started (3 s and more)."""


def train(config: Config) -> int:
    """Do what the settings say and return the exit status.

    Raises:
      InputError: settings, data or files that do not fit, or a loss that is no longer finite.
    """
    run_in_the_caller()  # before the next line makes JAX begin
    if jax.default_backend() == "cpu":
        keep_freed_memory()
    run = prepare(config)
    if config.eval_only:
        variables = load_weights(str(config.weights))[1]
        report_test(run, run.parallel.eval_step(run.objective), variables)
        return 0
    output, exists = check_output(run)
    variables = {} if exists else initial_variables(run)
    if not exists:
        make_output(run, output)
    with StopSignals() as signals, Checkpoints(output / "checkpoints") as checkpoints:
        restored = checkpoints.restore(abstract_state(run))
        if restored is not None:
            state, progress = restored
            _check_length(run, output, progress["step"])
        else:
            state = create_state(run.objective, variables or initial_variables(run))
            progress = {"step": 0, "validated": 0, "best": None}
        with Reporter(output, progress, run.total_steps) as reporter:
            if config.resume and not exists:
                reporter.say(f"there is no run in {output} to continue: a new one begins")
            reporter.say(describe(run, output, state, progress["step"]))
            trainer = Trainer(run, output, checkpoints, reporter, signals)
            with _naming_what_takes_memory(config):
                trainer.fit(run.parallel.put_state(state), progress)
            reporter.end_steps()
            if signals.received:
                reporter.say(f"stopped; continue with --output {output} --resume")
                return signals.exit_status
            variables = load_weights(output / "best")[1]
            result = report_test(run, trainer.eval_step, variables)
            step = run.total_steps
            reporter.write({"step": step, "epoch": trainer.epoch(step), **result})
            reporter.plot()
    return 0


def _check_length(run: Run, output: Path, step: int) -> None:
    if step > run.total_steps:
        raise InputError(
            f"the run in {output} has taken {step} steps already, and is to take "
            f"{run.total_steps}: leave --steps and --epochs out, or give more"
        )


@contextmanager
def _naming_what_takes_memory(config: Config) -> Iterator[None]:
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise InputError(
            f"out of memory with {config.batch_size} images in a batch: take a smaller "
            "--batch-size or --image-size, or add --remat"
        ) from error


class Trainer:
    """Steps, validation and saving of one run."""

    def __init__(
        self,
        run: Run,
        output: Path,
        checkpoints: Checkpoints,
        reporter: Reporter,
        signals: StopSignals,
    ) -> None:
        """Compile nothing yet; see `fit`."""
        self.run, self.output, self.signals = run, output, signals
        self.checkpoints, self.reporter = checkpoints, reporter
        self.train_step = run.parallel.train_step(run.objective)
        self.key = jax.random.key(run.config.seed)
        self.eval_step = run.parallel.eval_step(run.objective)
        self.unreadable: set[int] = set()
        self.unreported: tuple[int, Metrics] | None = None
        self.clock = time.perf_counter()
        self.clock_step = 0

    def fit(self, state: TrainState, progress: dict[str, Any]) -> None:
        """Train from the given state and progress to the last step, or until a signal."""
        run, config = self.run, self.run.config
        self.clock, self.clock_step = time.perf_counter(), progress["step"]
        batches = train_batches(
            run.dataset,
            preprocessing=run.preprocessing,
            batch_size=config.batch_size,
            seed=config.seed,
            start=progress["step"],
            workers=run.workers,
            skip_unreadable=config.on_bad_image == "skip",
        )
        with closing(batches):
            while True:
                step, last = progress["step"], progress["step"] == run.total_steps
                epoch_ends = last or (step > 0 and step % run.steps_per_epoch == 0)
                if epoch_ends and step > progress["validated"] and not self.signals.received:
                    self.validate(state, progress)
                elif self.signals.received or (step and step % config.checkpoint_every == 0):
                    self.save(state, progress)
                if last or self.signals.received:
                    break
                try:
                    batch = next(batches)
                except InputError:  # a file that cannot be read: keep what was learnt so far
                    self.save(state, progress)
                    raise
                images, labels = map(run.parallel.put_batch, (batch["image"], batch["label"]))
                state, metrics = self.train_step(state, images, labels, self.key)
                self.unreadable.update(int(i) for i in batch["unreadable"] if i >= 0)
                # The step just dispatched runs while the one before it is reported.
                self.report()
                progress = {**progress, "step": step + 1}
                self.unreported = (step + 1, metrics)
        self.checkpoints.wait()

    def report(self) -> None:
        """Report the last finished step.

        Raises:
          InputError: its loss is not finite; the state is not saved then.
        """
        if self.unreported is None:
            return
        step, metrics = self.unreported
        self.unreported = None
        line: Line = {"step": step, "epoch": self.epoch(step), "split": "train"}
        line |= {name: float(value) for name, value in self.run.parallel.get(metrics).items()}
        if not is_finite(line):
            saved = ", ".join(map(str, self.checkpoints.steps)) or "none yet"
            raise InputError(
                f"the loss is {line['loss']} at step {step}: training stopped. Good checkpoints in "
                f"{self.output / 'checkpoints'}: steps {saved}. Try a lower --learning-rate or a "
                "longer --warmup-epochs"
            )
        if step % self.run.config.log_every == 0 or step == self.run.total_steps:
            now = time.perf_counter()
            images = (step - self.clock_step) * self.run.config.batch_size
            line["images_per_second"] = round(images / (now - self.clock), 1)
            self.clock, self.clock_step = now, step
            self.reporter.write(line)
        self.reporter.step(line)

    def validate(self, state: TrainState, progress: dict[str, Any]) -> None:
        """Evaluate at the end of an epoch; keep the state, and the weights if they are the best."""
        self.report()
        step, dataset = progress["step"], self.run.dataset
        result, unreadable = evaluate(self.run, self.eval_step, state.variables, dataset.validation)
        line = {"step": step, "epoch": self.epoch(step), "split": "validation", **result}
        self.reporter.write(line)
        progress["validated"] = step
        if progress["best"] is None or quality(result) > tuple(progress["best"]):
            progress["best"] = list(quality(result))
            self.save_best(state, line)
        self.save(state, progress, result)
        self.reporter.plot()
        skipped = len(self.unreadable) + unreadable
        self.reporter.say(
            f"epoch {line['epoch']}: validation loss {result['loss']:.4f}, accuracy "
            f"{result['accuracy']:.4f} (best {progress['best'][0]:.4f})"
            + (f"; {skipped} unreadable images skipped" if skipped else "")
        )
        self.clock, self.clock_step = time.perf_counter(), step

    def save(
        self, state: TrainState, progress: dict[str, Any], result: dict[str, float] | None = None
    ) -> None:
        """Write a checkpoint in the background."""
        self.report()
        host = self.run.parallel.get(state)
        self.checkpoints.save(progress["step"], host, progress, result)

    def save_best(self, state: TrainState, line: Line) -> None:
        """Write the weights directory of the best validation result so far."""
        variables = self.run.parallel.get(state.variables)
        metadata = self.run.metadata
        metadata.source.update(step=line["step"], validation_accuracy=line["accuracy"])
        save_weights(
            self.output / "best",
            self.run.config.model,
            self.run.options,
            variables,
            metadata,
            overwrite=True,
        )

    def epoch(self, step: int) -> int:
        """The epoch that a step belongs to, counted from 1."""
        return (step - 1) // self.run.steps_per_epoch + 1


def evaluate(
    run: Run, eval_step: EvalStep, variables: Any, source: Source
) -> tuple[dict[str, float], int]:
    """Mean loss, accuracy and top5 over a split, and how many of its images were unreadable."""
    totals: dict[str, float] = defaultdict(float)
    unreadable = 0
    batches = eval_batches(
        source,
        preprocessing=run.preprocessing,
        batch_size=run.config.batch_size,
        workers=run.workers if len(source) >= _MANY_IMAGES else 0,
        skip_unreadable=run.config.on_bad_image == "skip",
    )
    with closing(batches):
        for batch in batches:
            put = run.parallel.put_batch
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
    """Evaluate weights on the test split, or on the validation split where there is no other."""
    test = run.dataset.test
    split, source = ("validation", run.dataset.validation) if test is None else ("test", test)
    result, _ = evaluate(run, eval_step, run.parallel.put_state(variables), source)
    numbers = ", ".join(f"{name} {value:.4f}" for name, value in result.items())
    print(f"{split} ({len(source)} images): {numbers}", flush=True)
    return {"split": split, **result}
