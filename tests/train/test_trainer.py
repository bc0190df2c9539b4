"""Which validation of a run is the best."""

import pytest

from train.trainer import quality

RESULTS = {
    "first": {"accuracy": 0.6, "top5": 0.8, "loss": 1.3},
    "surest": {"accuracy": 0.6, "top5": 0.8, "loss": 1.1},
    "broadest": {"accuracy": 0.5, "top5": 0.9, "loss": 1.2},
    "calmest": {"accuracy": 0.4, "top5": 0.7, "loss": 1.0},
}


@pytest.mark.parametrize(
    ("by", "best"), [("accuracy", "surest"), ("top5", "broadest"), ("loss", "calmest")]
)
def test_the_best_is_by_the_chosen_metric_and_then_by_the_loss(by, best):
    assert max(RESULTS, key=lambda name: quality(RESULTS[name], by)) == best
