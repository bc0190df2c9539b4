"""What a run says of its steps."""

from types import SimpleNamespace

import pytest

from train.config import Config
from train.reporting import StepLines


class Reporter:
    def __init__(self):
        self.said, self.written = [], []

    def say(self, text):
        self.said.append(text)

    def write(self, line):
        self.written.append(line)

    def step(self, line):
        pass


@pytest.fixture
def reporter():
    return Reporter()


def step_lines(reporter, warmup):
    model = SimpleNamespace(norm_momentum=0.9997)
    run = SimpleNamespace(
        config=Config(log_every=1),
        total_steps=100,
        epoch=lambda step: 1,
        parallel=SimpleNamespace(get=lambda metrics: metrics),
        objective=SimpleNamespace(model=model, norm_warmup=warmup),
    )
    return StepLines(run, reporter, checkpoints=None, state=None)


def train(lines, *accuracies):
    for step, accuracy in enumerate(accuracies, start=1):
        lines.add(step, {"loss": 1.0, "accuracy": accuracy})
        lines.flush()


@pytest.mark.parametrize("warmup", [True, False])
def test_a_wide_gap_between_training_and_validation_is_said_once(reporter, warmup):
    lines = step_lines(reporter, warmup)
    for _ in range(2):
        train(lines, 0.96, 0.98)
        lines.compare(0.1)
    (warning,) = reporter.said
    assert "accuracy is 0.970 in training but 0.100 in validation" in warning
    assert ("momentum 0.9997: --norm-warmup" in warning) == (not warmup)


@pytest.mark.parametrize(("trained", "validated"), [(0.3, 0.1), (0.9, 0.6), (0.5, 0.9)])
def test_a_narrow_gap_is_not(reporter, trained, validated):
    lines = step_lines(reporter, warmup=False)
    train(lines, trained)
    lines.compare(validated)
    assert reporter.said == []


def test_the_training_of_an_epoch_is_compared_with_its_own_validation(reporter):
    lines = step_lines(reporter, warmup=True)
    train(lines, 0.0, 0.0, 0.0)
    lines.compare(0.0)
    train(lines, 1.0)
    lines.compare(0.4)
    assert len(reporter.said) == 1
